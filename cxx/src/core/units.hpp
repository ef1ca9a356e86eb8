#pragma once

namespace deepmd {

// CODATA 2018 recommended values. The core works in eV and Angstrom; only shells convert.
constexpr double kBohrInAngstrom = 0.529177210903;
constexpr double kHartreeInEv = 27.211386245988;
constexpr double kBoltzmannInEvPerKelvin = 8.617333262e-5;

// What i-PI itself uses (ipi/utils/units.py of i-PI 3.x), for the wire to i-PI only. A client has to use the same digits,
// or the energies that i-PI prints in electronvolt differ from the model's by 1e-7.
constexpr double kIpiBohrPerAngstrom = 1.8897261;
constexpr double kIpiHartreePerElectronvolt = 0.036749326;

}  // namespace deepmd
