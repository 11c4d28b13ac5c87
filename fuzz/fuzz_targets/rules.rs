//! A rule file of any content: refused or compiled, and then equal to the slow way on the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| safety::leak_detector::oracle::rules(data));
