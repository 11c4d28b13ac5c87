//! The forms in which a secret may come back.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Every text in which the value may stand: itself, base64 and base64url at the three alignments,
/// hexadecimal (close, by colons, by spaces), percent, JSON and Unicode escapes, HTML entities, reversed, UTF-16.
pub(super) fn all(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    for alignment in 0..3 {
        forms.push(base64_inside(&STANDARD_NO_PAD, value, alignment));
        forms.push(base64_inside(&URL_SAFE_NO_PAD, value, alignment));
    }
    let each =
        |form: &dyn Fn(u8) -> String| value.iter().map(|byte| form(*byte)).collect::<String>().into_bytes();
    forms.push(each(&|byte| format!("{byte:02x}")));
    forms.push(each(&|byte| format!("{byte:02X}")));
    for separator in [":", " "] {
        forms.push(each(&|byte| format!("{byte:02x}{separator}")));
        forms.push(each(&|byte| format!("{byte:02X}{separator}")));
    }
    forms.push(each(&|byte| format!("%{byte:02X}")));
    forms.push(each(&|byte| format!("%{byte:02x}")));
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let or_plain =
        |byte: u8, escaped: String| if unreserved(byte) { (byte as char).to_string() } else { escaped };
    forms.push(each(&|byte| or_plain(byte, format!("%{byte:02X}"))));
    forms.push(each(&|byte| or_plain(byte, format!("%{byte:02x}"))));
    // What `encodeURIComponent` leaves, and how a form writes a space.
    let component = |byte: u8| matches!(byte, b'!' | b'*' | b'\'' | b'(' | b')');
    let escaped =
        |byte: u8| if component(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") };
    forms.push(each(&|byte| or_plain(byte, escaped(byte))));
    forms.push(each(&|byte| if byte == b' ' { "+".into() } else { or_plain(byte, format!("%{byte:02X}")) }));
    forms.push(each(&|byte| format!("\\x{byte:02x}")));
    if let Ok(text) = std::str::from_utf8(value) {
        forms.push(quoted(text));
        // Some writers of JSON escape the slash too.
        forms.push(String::from_utf8_lossy(&quoted(text)).replace('/', "\\/").into_bytes());
        forms.push(units(text, |unit| format!("\\u{unit:04x}").into_bytes()));
        forms.push(units(text, |unit| format!("\\u{unit:04X}").into_bytes()));
        forms.push(units(text, |unit| unit.to_le_bytes().to_vec()));
        forms.push(units(text, |unit| unit.to_be_bytes().to_vec()));
        forms.push(entities(text));
        forms.push(text.chars().map(|c| format!("&#{};", c as u32)).collect::<String>().into_bytes());
        forms.push(text.chars().map(|c| format!("&#x{:x};", c as u32)).collect::<String>().into_bytes());
        forms.push(text.chars().map(|c| format!("&#x{:X};", c as u32)).collect::<String>().into_bytes());
    }
    forms.push(value.iter().rev().copied().collect());
    forms.sort();
    forms.dedup();
    forms
}

/// The base64 characters that the value alone decides when `alignment` bytes stand before it.
fn base64_inside(engine: &impl base64::Engine, value: &[u8], alignment: usize) -> Vec<u8> {
    let mut padded = vec![0u8; alignment];
    padded.extend_from_slice(value);
    let encoded = engine.encode(&padded).into_bytes();
    let first = (alignment * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_vec()
}

/// As JSON writes a string, without the quotes.
fn quoted(text: &str) -> Vec<u8> {
    let json = serde_json::Value::from(text).to_string().into_bytes();
    json.get(1..json.len() - 1).unwrap_or_default().to_vec()
}

fn units(text: &str, form: fn(u16) -> Vec<u8>) -> Vec<u8> {
    text.encode_utf16().flat_map(form).collect()
}

/// With the five characters that HTML and XML must escape.
fn entities(text: &str) -> Vec<u8> {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;").into_bytes()
}
