//! Hostile: never returns and never calls the host.

struct Loop;

impl kit::Guest for Loop {
    fn call(arguments: String) -> Result<String, String> {
        let mut sum = arguments.len() as u64;
        loop {
            sum = std::hint::black_box(sum.wrapping_mul(6364136223846793005).wrapping_add(1));
            if sum == 0 && arguments.is_empty() {
                return Ok(String::new());
            }
        }
    }
}

kit::export!(Loop);
