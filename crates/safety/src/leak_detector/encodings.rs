//! The forms in which a secret may come back, and the parts of it that are no secret.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The parts of a value that are secret. The rest is public (the user and host of a connection
/// string, the lines around a key, a vendor's prefix), and a fingerprint of it would stop honest
/// text and confirm guesses.
pub(super) fn secret_parts(value: &[u8]) -> Vec<Vec<u8>> {
    if let Some(password) = url_password(value) {
        return vec![password];
    }
    if memchr::memmem::find(value, b"PRIVATE KEY").is_some() {
        return key_lines(value);
    }
    if let Some(signature) = jwt_signature(value) {
        return vec![signature];
    }
    if let Some(password) = assigned_password(value) {
        return vec![password];
    }
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(value) {
        let mut parts = Vec::new();
        object.values().for_each(|leaf| json_leaves(leaf, &mut parts));
        return parts;
    }
    vec![without_prefix(value).to_vec()]
}

/// The password of `scheme://user:password@host`, decoded as it stands.
fn url_password(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once("://")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if scheme.is_empty() || !scheme.bytes().all(plain) {
        return None;
    }
    let (user, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    Some(password.as_bytes().to_vec())
}

/// The signature of a JSON Web Token: its head and the beginning of its body are the same in every token
/// of one issuer.
fn jwt_signature(value: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b'.').collect();
    let [head, _, signature] = parts.as_slice() else { return None };
    (head.starts_with(b"eyJ") && signature.len() >= 16).then(|| signature.to_vec())
}

/// The password of a connection string of pairs: `Server=...;Password=...` (ADO.NET, ODBC),
/// `host=... password=...` (libpq), `AccountName=...;AccountKey=...` (Azure).
fn assigned_password(value: &[u8]) -> Option<Vec<u8>> {
    const NAMES: [&str; 6] =
        ["password", "pwd", "accountkey", "sharedaccesskey", "sharedaccesssignature", "accesskey"];
    let text = std::str::from_utf8(value).ok()?;
    let separator = if text.contains(';') { ';' } else { ' ' };
    let mut pairs =
        text.split(separator).filter(|pair| !pair.trim().is_empty()).map(|pair| pair.split_once('='));
    let pairs: Vec<(&str, &str)> = pairs.by_ref().collect::<Option<_>>()?;
    let named = |(name, _): &&(&str, &str)| NAMES.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
    let (_, password) = pairs.iter().find(named).filter(|_| pairs.len() > 1)?;
    Some(password.trim().trim_matches(['"', '\'', '{', '}']).as_bytes().to_vec())
}

/// The lines of a key block without its markers and headers. The first 40 characters of DER are the
/// same for every key of a kind.
fn key_lines(value: &[u8]) -> Vec<Vec<u8>> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let body = lines.filter(|line| !line.is_empty() && !line.starts_with(b"-") && !line.contains(&b':'));
    body.enumerate()
        .map(|(index, line)| if index == 0 { line.get(40..).unwrap_or_default() } else { line })
        .filter(|line| line.len() >= 16)
        .map(<[u8]>::to_vec)
        .collect()
}

/// The leaves of a JSON credential that are secret: long, one word, no address, or a key block.
fn json_leaves(value: &serde_json::Value, parts: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::String(leaf) if leaf.contains("PRIVATE KEY") => {
            parts.extend(key_lines(leaf.as_bytes()));
        }
        serde_json::Value::String(leaf) => {
            let word = !leaf.contains("://") && !leaf.contains('@') && !leaf.contains(char::is_whitespace);
            if leaf.len() >= 12 && word {
                parts.push(without_prefix(leaf.as_bytes()).to_vec());
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| json_leaves(item, parts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| json_leaves(item, parts)),
        _ => {}
    }
}

/// Cuts a vendor's prefix such as `ghp_`, `sk-ant-api03-` or `AKIA`: short words of letters that end
/// in a separator, while enough is left.
fn without_prefix(value: &[u8]) -> &[u8] {
    let mut rest = value;
    for _ in 0..4 {
        let separator = rest.iter().take(12).position(|byte| matches!(byte, b'_' | b'-' | b'.'));
        let Some(at) = separator else { break };
        let word = &rest[..at];
        let public = word.len() <= 8 && word.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !public || rest.len() - at - 1 < 16 {
            break;
        }
        rest = &rest[at + 1..];
    }
    for prefix in ["AKIA", "ASIA", "AIza", "eyJ", "Bearer ", "Basic "] {
        if let Some(cut) = rest.strip_prefix(prefix.as_bytes()).filter(|cut| cut.len() >= 16) {
            return cut;
        }
    }
    rest
}

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
