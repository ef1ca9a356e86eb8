// Constants of nature; they stand here and nowhere else.
#ifndef DEEPMD_CORE_UNITS_HPP
#define DEEPMD_CORE_UNITS_HPP

namespace deepmd::units {

// What i-PI itself uses (ipi/utils/units.py of i-PI 3.x). A client has to use the same digits, or the energies that i-PI
// prints in electronvolt differ from the model's in the eighth digit.
inline constexpr double kIpiBohrPerAngstrom = 1.8897261;
inline constexpr double kIpiHartreePerElectronvolt = 0.036749326;

}  // namespace deepmd::units

#endif  // DEEPMD_CORE_UNITS_HPP
