#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>

#include "check.hpp"
#include "core/error.hpp"
#include "core/sha256.hpp"
#include "model/file_kind.hpp"
#include "model/model_file.hpp"
#include "model/safetensors.hpp"
#include "model/zip_archive.hpp"

using deepmd::Error;
using deepmd::ModelFile;
using deepmd::SafeTensors;
using deepmd::ZipArchive;

namespace {

std::string number(std::uint64_t value, int n_bytes) {
  std::string bytes;
  for (int k = 0; k < n_bytes; ++k) bytes += static_cast<char>(value >> (8 * k));
  return bytes;
}

struct Record {
  std::string name, content;
};

// A zip archive of stored records; checksums are left zero, nobody here reads them.
std::string make_zip(const std::vector<Record>& records, bool is_zip64) {
  std::string bytes, directory;
  for (const Record& record : records) {
    const std::string size = number(is_zip64 ? 0xffffffff : record.content.size(), 4);
    const std::string offset = number(is_zip64 ? 0xffffffff : bytes.size(), 4);
    const std::string extra = is_zip64 ? number(1, 2) + number(24, 2) + number(record.content.size(), 8) +
                                             number(record.content.size(), 8) + number(bytes.size(), 8)
                                       : std::string();
    directory += "PK\x01\x02" + std::string(6, '\0') + number(0, 2) + std::string(8, '\0') + size + size +
                 number(record.name.size(), 2) + number(extra.size(), 2) + number(0, 2) + std::string(8, '\0') + offset +
                 record.name + extra;
    bytes += "PK\x03\x04" + std::string(14, '\0') + size + size + number(record.name.size(), 2) + number(3, 2) +
             record.name + "pad" + record.content;
  }
  const std::uint64_t start = bytes.size(), n = records.size();
  bytes += directory;
  if (is_zip64) {
    const std::uint64_t end64 = bytes.size();
    bytes += "PK\x06\x06" + number(44, 8) + std::string(12, '\0') + number(n, 8) + number(n, 8) +
             number(directory.size(), 8) + number(start, 8);
    bytes += "PK\x06\x07" + number(0, 4) + number(end64, 8) + number(1, 4);
  }
  bytes += "PK\x05\x06" + number(0, 4) + number(is_zip64 ? 0xffff : n, 2) + number(is_zip64 ? 0xffff : n, 2) +
           number(directory.size(), 4) + number(is_zip64 ? 0xffffffff : start, 4) + number(0, 2);
  return bytes;
}

std::string seal(std::string zip) {
  const std::string trailer = "deepmd-engine-1 sha256:";
  zip.resize(zip.size() - 2);
  zip += number(trailer.size() + 64, 2) + trailer;
  return zip + deepmd::sha256_hex(zip.data(), zip.size());
}

std::string make_tensors(const std::string& header, const std::string& data) {
  return number(header.size(), 8) + header + data;
}

std::string doubles(const std::vector<double>& values) {
  std::string bytes(8 * values.size(), '\0');
  if (!values.empty()) std::memcpy(&bytes[0], values.data(), bytes.size());
  return bytes;
}

const char* const kMetadata = R"({"format_version": 1, "kind": "energy", "type_map": ["O", "H"], "rcut": 6.0,
  "dim_fparam": 1, "dim_aparam": 0, "default_fparam": [0.5], "min_pair_distance": 0.9, "selftest": {"tolerance": 1e-8}})";

std::string one_frame() {
  const std::string header = R"({"__metadata__": {"a": "b"}, "0.positions": {"dtype": "F64", "shape": [1, 3],
    "data_offsets": [0, 24]}, "0.types": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
    "0.forces": {"dtype": "F64", "shape": [1, 3], "data_offsets": [0, 24]},
    "0.virial": {"dtype": "F64", "shape": [3, 3], "data_offsets": [32, 104]},
    "0.energy": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
    "0.atom_energy": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}})";
  return make_tensors(header, doubles({1, 2, 3}) + number(1, 8) + doubles(std::vector<double>(9, 4)));
}

std::string whole_file(bool is_zip64) {
  return seal(make_zip({{"graph/data.pkl", "pickle"},
                        {"graph/code/model.py", "code"},
                        {"graph/extra/deepmd/metadata.json", kMetadata},
                        {"graph/extra/deepmd/selftest.safetensors", one_frame()}},
                       is_zip64));
}

}  // namespace

TEST(sha256_equals_published_values) {
  const auto digest = [](const std::string& s) { return deepmd::sha256_hex(s.data(), s.size()); };
  CHECK(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(zip_records_are_found_in_both_layouts) {
  for (bool is_zip64 : {false, true}) {
    const std::string bytes = whole_file(is_zip64);
    const auto archive = ZipArchive::open(bytes);
    CHECK(archive.has_value());
    CHECK(archive->record("code/model.py") == std::string_view("code"));
    CHECK(!archive->record("model.py"));
    CHECK(archive->has_record_under("code/"));
    CHECK(!archive->has_record_under("constants/"));
  }
}

TEST(whole_file_is_read) {
  const ModelFile file("graph.pth", whole_file(true));
  CHECK(file.metadata().type_map == (std::vector<std::string>{"O", "H"}));
  CHECK(file.metadata().default_fparam == std::vector<double>{0.5});
  CHECK_NEAR(file.metadata().min_pair_distance, 0.9, 0);
  const auto frames = file.selftest_frames();
  CHECK(frames.size() == 1);
  CHECK(frames[0].positions == (std::vector<double>{1, 2, 3}));
  CHECK(frames[0].types == std::vector<int>{1});
  CHECK(frames[0].cell.empty());
  CHECK_NEAR(frames[0].virial[8], 4, 0);
}

TEST(facts_of_other_kinds_are_read) {
  const std::string head = R"({"format_version": 1, "type_map": ["O", "H"], "rcut": 4.0, "dim_fparam": 0, "dim_aparam": 0,
    "selftest": {"tolerance": 1e-8}, )";
  const auto read = [&](const std::string& rest) { return deepmd::parse_metadata(head + rest + "}"); };
  const auto dipole = read(R"("kind": "dipole", "passes_messages": true, "receptive_field": 10.0, "output": {"name": "dipole",
    "width": 3, "reduce": "sum", "derivatives": true, "sel_type": [1]})");
  CHECK(dipole.passes_messages && dipole.receptive_field == 10.0 && !dipole.has_energy());
  CHECK(dipole.output.width == 3 && dipole.output.has_derivatives && !dipole.output.is_mean);
  CHECK(dipole.output.sel_types == std::vector<int>{1});
  const auto gap = read(R"("kind": "property", "output": {"name": "gap", "width": 1, "reduce": "mean", "derivatives": false})");
  CHECK(gap.output.is_mean && gap.output.sel_types.size() == 2 && gap.receptive_field == 4.0);
  const auto spin = read(R"("kind": "spin", "output": {"virtual_scale": [0.3, 0.0], "reach": 0.5, "use_spin": [true, false]})");
  CHECK(spin.has_energy() && spin.has_spins() && spin.spin.scale.size() == 2 && spin.spin.reach == 0.5);
  CHECK_THROWS(read(R"("kind": "energy", "receptive_field": 3.0)"), Error, "receptive_field is 3, expected at least rcut");
  CHECK_THROWS(read(R"("kind": "dos", "output": {"name": "dos", "width": 0, "reduce": "sum", "derivatives": false})"), Error,
               "width of its output is 0");
  CHECK_THROWS(read(R"("kind": "spin", "output": {"virtual_scale": [0.3], "reach": 0.5})"), Error, "virtual_scale");
}

TEST(every_bit_flip_and_every_cut_is_refused) {
  const std::string whole = whole_file(true);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    CHECK_THROWS(ModelFile("graph.pth", damaged), Error, "graph.pth ");
    CHECK_THROWS(ModelFile("graph.pth", whole.substr(0, at)), Error, "graph.pth ");
  }
}

// Behind a right checksum, too, nothing may be believed: a file can be sealed anew after damage.
TEST(random_damage_of_parsed_bytes_is_survived) {
  std::mt19937 generator(7);
  for (int round = 0; round < 4000; ++round) {
    std::string zip = make_zip({{"g/extra/deepmd/metadata.json", kMetadata},
                                {"g/extra/deepmd/selftest.safetensors", one_frame()}},
                               round % 2 == 0);
    for (int n = 1 + static_cast<int>(generator() % 3); n > 0; --n) {
      zip[generator() % (zip.size() - 2)] = static_cast<char>(generator());
    }
    deepmd::describe_foreign_file(zip);
    try {
      ModelFile("graph.pth", seal(zip)).selftest_frames();
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find("graph.pth ") == 0);
    }
  }
}

TEST(impossible_tensors_are_refused) {
  const auto open = [](const std::string& bytes) { return SafeTensors(bytes); };
  CHECK_THROWS(open("short"), Error, "shorter than");
  CHECK_THROWS(open(number(1000, 8) + "{}"), Error, "longer than the record");
  CHECK_THROWS(open(number(~0ULL, 8) + "{}"), Error, "longer than the record");
  CHECK_THROWS(open(make_tensors("[]", "")), Error, "not a JSON object");
  CHECK_THROWS(open(make_tensors(R"({"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}})", "12345678")),
               Error, "outside");
  CHECK_THROWS(open(make_tensors(R"({"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}})", "12345678")), Error,
               "impossible shape");
  CHECK_THROWS(
      open(make_tensors(R"({"a": {"dtype": "F64", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]}})",
                        "12345678")),
      Error, "impossible shape");
  CHECK_THROWS(open(make_tensors(R"({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 8]}})", "12345678")), Error,
               "unknown number type 'F99'");
  CHECK_THROWS(open(make_tensors(R"({"a": 3})", "")), Error, "'a' is malformed");
  const std::string one = make_tensors(R"({"a": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]}})", doubles({2.5}));
  CHECK(open(one).doubles("a") == std::vector<double>{2.5});
  CHECK_THROWS(open(one).integers("a"), Error, "expected I64 or I32");
  CHECK_THROWS(open(one).doubles("b"), Error, "'b' is missing");
}

TEST(unusable_paths_are_refused) {
  CHECK_THROWS(ModelFile::read("/no/such/folder/graph.pth"), Error, "cannot be read: No such file");
  CHECK_THROWS(ModelFile::read("."), Error, "is a folder");
  const std::string path = "test_model_file_whole.pth";
  std::ofstream(path, std::ios::binary) << whole_file(false);
  CHECK(ModelFile::read(path).metadata().rcut == 6.0);
  std::remove(path.c_str());
}
