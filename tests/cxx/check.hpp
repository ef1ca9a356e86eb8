// The little that these tests need of a test library: cases register themselves, checks count and go on.
#pragma once

#include <cmath>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

namespace check {

struct Case {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& n_failed() {
  static int n = 0;
  return n;
}

struct Registration {
  Registration(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  ++n_failed();
  std::cerr << file << ":" << line << ": " << what << "\n";
}

// Runs all cases; the exit status of the program.
inline int run_all() {
  for (const Case& each : cases()) {
    try {
      each.body();
    } catch (const std::exception& e) {
      fail(each.name.c_str(), 0, std::string("unexpected exception: ") + e.what());
    }
  }
  std::cout << cases().size() << " cases, " << n_failed() << " failures\n";
  return n_failed() ? 1 : 0;
}

}  // namespace check

#define TEST(name)                                             \
  static void test_##name();                                   \
  static const check::Registration registration_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition) \
  do {                   \
    if (!(condition)) check::fail(__FILE__, __LINE__, "not true: " #condition); \
  } while (false)

#define CHECK_NEAR(value, expected, tolerance)                                                             \
  do {                                                                                                     \
    const double value_ = (value), expected_ = (expected);                                                 \
    if (!(std::abs(value_ - expected_) <= (tolerance)))                                                    \
      check::fail(__FILE__, __LINE__,                                                                      \
                  #value " is " + std::to_string(value_) + ", expected " + std::to_string(expected_));     \
  } while (false)

// The statement must throw an exception of type E whose text contains `words`.
#define CHECK_THROWS(statement, E, words)                                                                    \
  do {                                                                                                       \
    try {                                                                                                    \
      statement;                                                                                             \
      check::fail(__FILE__, __LINE__, "did not throw: " #statement);                                         \
    } catch (const E& e_) {                                                                                  \
      if (std::string(e_.what()).find(words) == std::string::npos)                                           \
        check::fail(__FILE__, __LINE__, std::string("threw \"") + e_.what() + "\", expected words: " + words); \
    }                                                                                                        \
  } while (false)
