//! Hostile: takes memory until it holds 1 GiB.

/// What it wants in the end.
const WANTED: usize = 1 << 30;
/// What it takes at a time.
const STEP: usize = 1 << 20;

struct Memory;

impl kit::Guest for Memory {
    fn call(_arguments: String) -> Result<String, String> {
        let mut held = Vec::new();
        while held.len() * STEP < WANTED {
            held.push(std::hint::black_box(vec![1u8; STEP]));
        }
        Ok(format!("{} MiB taken", held.len() * STEP >> 20))
    }
}

kit::export!(Memory);
