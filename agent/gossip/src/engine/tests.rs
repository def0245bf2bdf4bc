//! The engine driven by a clock of the test.
