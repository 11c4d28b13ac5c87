//! Which parts of a value are secret.
//!
//! The rest is public: the host and the user of a connection string, the path of a webhook that everybody's has, the
//! name in front of an assignment, the scheme of a header, a vendor's prefix, the head of a token. A fingerprint of
//! it would stop honest text and confirm guesses.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::context::entropy;
use super::letters;

/// Fewer bytes than this are no part of their own: they occur by chance.
const LEAST: usize = 8;
/// The least bytes of a word that is a secret by its looks alone.
const LEAST_RANDOM: usize = 16;
/// How far values may stand in each other: a header of an assignment of a URL.
const DEPTH: usize = 4;
/// What a name says whose value is secret, in a query, in JSON or in front of an assignment.
const SECRET_NAMES: [&str; 11] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "auth",
    "sig",
];

/// The secret parts of a value, each as it stands and, where that is something else, decoded. None at all where the
/// whole is public.
pub(super) fn secret_parts(value: &[u8]) -> Vec<Vec<u8>> {
    let parts = match std::str::from_utf8(value) {
        Ok(text) => of(text, DEPTH),
        Err(_) => vec![value.to_vec()],
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

fn of(text: &str, depth: usize) -> Vec<Vec<u8>> {
    let text = text.trim();
    let inner = |text: &str| match depth {
        0 => one(text),
        _ => of(text, depth - 1),
    };
    if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
        let mut parts = Vec::new();
        members(&json, false, &mut parts);
        return parts;
    }
    if text.contains("PRIVATE KEY") {
        return key_lines(text);
    }
    if let Some(rest) = scheme_word(text) {
        return inner(rest);
    }
    if let Some(credentials) = basic(text) {
        return inner(&credentials);
    }
    if let Some(parts) = url(text, &inner) {
        return parts;
    }
    if let Some(password) = assigned_password(text) {
        return vec![password.as_bytes().to_vec()];
    }
    if let Some(value) = assigned(text) {
        return inner(value);
    }
    if let Some(password) = behind_user(text) {
        return one(password);
    }
    dotted(text).unwrap_or_else(|| one(text))
}

/// One word, without its vendor's prefix.
fn one(text: &str) -> Vec<Vec<u8>> {
    vec![without_prefix(text).as_bytes().to_vec()]
}

/// What follows the scheme of `Authorization` (RFC 9110, section 11.6.2), with the name of the header or without.
fn scheme_word(text: &str) -> Option<&str> {
    const SCHEMES: [&str; 6] = ["bearer", "token", "apikey", "bot", "authorization:", "proxy-authorization:"];
    let (word, rest) = text.split_once(' ')?;
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)).then(|| rest.trim())
}

/// `user:password` of the scheme `Basic` (RFC 7617).
fn basic(text: &str) -> Option<String> {
    let (word, rest) = text.split_once(' ')?;
    let decoded = STANDARD.decode(rest.trim()).ok().filter(|_| word.eq_ignore_ascii_case("basic"))?;
    String::from_utf8(decoded).ok()
}

/// The secret parts of `scheme:...//user:password@host/path?query#fragment` (RFC 3986, appendix B, which takes the
/// lists of hosts of databases too): the password, what looks random among the segments of the path, and the values
/// of the query that are named as secrets or look random. A user without a password counts when it looks random:
/// that is how a token is written into a URL.
fn url(text: &str, inner: &dyn Fn(&str) -> Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b':');
    if scheme.is_empty() || !scheme.bytes().all(plain) || text.contains(char::is_whitespace) {
        return None;
    }
    let mut found = Vec::new();
    let mut take = |part: &str| {
        found.push(without_prefix(part).as_bytes().to_vec());
        let decoded = percent_decoded(part.as_bytes());
        if decoded != part.as_bytes() {
            found.push(decoded);
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password that should have been escaped holds one of these; what follows the last `@` is the host.
    let end = if authority.contains('@') {
        authority.len()
    } else {
        unescaped_user(rest).unwrap_or(authority.len())
    };
    let user = rest[..end].rsplit_once('@').map(|(user, _)| user);
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        [(user, looks_random(user)), (password, !password.is_empty())]
            .iter()
            .filter(|(_, secret)| *secret)
            .for_each(|(part, _)| take(part));
    }
    let pairs = if user.is_none() { rest.split_once(';').map_or("", |(_, pairs)| pairs) } else { "" };
    let (rest, fragment) = rest[end..].split_once('#').unwrap_or((&rest[end..], ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // SQL Server's driver writes its pairs behind the host, with semicolons.
    if let Some(password) = assigned_password(pairs) {
        take(password);
    } else {
        for word in path.split(['/', ':', ';', ',']).filter(|word| looks_random(word)) {
            take(word);
        }
    }
    for pair in query.split(['&', ';']).chain(fragment.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        if is_secret_name(name) && value.len() >= LEAST || looks_random(value) {
            take(value);
        }
    }
    // `jdbc:oracle:thin:user/password@//host` and the like have no `://` of their own, and nothing else has two.
    if found.is_empty() && scheme.contains(':') && rest.contains("://") {
        return Some(inner(rest));
    }
    Some(found)
}

/// The end of the host behind a password that holds a delimiter, as in `postgres://user:pa/ss@host/db`.
fn unescaped_user(rest: &str) -> Option<usize> {
    let at = rest.rfind('@')?;
    let (user, _) = rest[..at].split_once(':')?;
    let host = rest[at + 1..].find(['/', '?', '#']).map_or(rest.len(), |end| at + 1 + end);
    (!user.contains(['/', '?', '#'])).then_some(host)
}

/// The password of a connection string of pairs: `Server=...;Password=...` (ADO.NET, ODBC),
/// `host=... password=...` (libpq), `AccountName=...;AccountKey=...` (Azure).
fn assigned_password(text: &str) -> Option<&str> {
    const NAMES: [&str; 6] =
        ["password", "pwd", "accountkey", "sharedaccesskey", "sharedaccesssignature", "accesskey"];
    let separator = if text.contains(';') { ';' } else { ' ' };
    let mut pairs =
        text.split(separator).filter(|pair| !pair.trim().is_empty()).map(|pair| pair.split_once('='));
    let pairs: Vec<(&str, &str)> = pairs.by_ref().collect::<Option<_>>()?;
    let named = |(name, _): &&(&str, &str)| NAMES.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
    let (_, password) = pairs.iter().find(named).filter(|_| pairs.len() > 1)?;
    Some(password.trim().trim_matches(['"', '\'', '{', '}']))
}

/// The value of `NAME=value`, as in an environment file. Base64 with its padding is none, nor a random word with a
/// sign in it.
fn assigned(text: &str) -> Option<&str> {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let (name, value) = text.split_once('=')?;
    let value = value.trim().trim_matches(['"', '\'']);
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let upper = name.contains('_') && !name.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_name = !name.is_empty() && name.bytes().all(word) && (upper || is_secret_name(name));
    (is_name && !looks_random(name) && value.len() >= LEAST).then_some(value)
}

/// The password of `user:password`, `user:password@host:port` or `id:secret`, when what stands in front of the colon
/// says nothing.
fn behind_user(text: &str) -> Option<&str> {
    let (user, rest) = text.split_once(':')?;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'+');
    let key_id = user.len() == 20 && (user.starts_with("AKIA") || user.starts_with("ASIA"));
    if user.is_empty() || !user.bytes().all(named) || looks_random(user) && !key_id {
        return None;
    }
    let is_host = |host: &str| {
        let host = host.split('/').next().unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        let port_is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        letters && !name.is_empty() && (name.contains('.') || port_is_number)
    };
    let password =
        rest.rsplit_once('@').filter(|(_, host)| is_host(host)).map_or(rest, |(password, _)| password);
    (password.len() >= LEAST).then_some(password)
}

/// The secret parts of a token of parts with dots between. Of a JSON Web Token (RFC 7515) its head and the beginning
/// of its body are the same in every token of one issuer; other tokens begin with the base64 of an account's number.
fn dotted(text: &str) -> Option<Vec<Vec<u8>>> {
    let (head, rest) = text.split_once('.')?;
    let decoded = URL_SAFE_NO_PAD.decode(head.trim_end_matches('=')).ok()?;
    let number = decoded.len() >= LEAST && decoded.iter().all(u8::is_ascii_digit);
    if !head.starts_with("eyJ") && !number {
        return None;
    }
    let parts: Vec<&str> = rest.split('.').collect();
    let parts = match parts.as_slice() {
        [_, last] => vec![*last],
        all => all.to_vec(),
    };
    let parts: Vec<Vec<u8>> =
        parts.iter().filter(|part| part.len() >= LEAST_RANDOM).map(|part| part.as_bytes().to_vec()).collect();
    (!parts.is_empty()).then_some(parts)
}

/// The lines of a key block without its markers and headers, broken as they stand or as `\n`. The first 40
/// characters of DER are the same for every key of a kind.
fn key_lines(text: &str) -> Vec<Vec<u8>> {
    let text = text.replace("\\r", "").replace("\\n", "\n");
    let lines = text.lines().map(|line| line.trim().trim_matches(['"', '\'']));
    let body = lines.filter(|line| !line.is_empty() && !line.starts_with('-') && !line.contains(':'));
    body.enumerate()
        .map(|(index, line)| if index == 0 { line.get(40..).unwrap_or_default() } else { line })
        .filter(|line| line.len() >= 16)
        .map(|line| line.as_bytes().to_vec())
        .collect()
}

/// The leaves of a JSON credential that are secret: key blocks, values of members that are named as secrets, and
/// what looks random, unless its name says that it is an id.
fn members(value: &Value, named: bool, parts: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(leaf) if leaf.contains("PRIVATE KEY") => parts.extend(key_lines(leaf)),
        Value::String(leaf) if leaf.contains("://") => parts.extend(of(leaf, 0)),
        Value::String(leaf) if named && leaf.len() >= LEAST || looks_random(leaf) => {
            parts.extend(of(leaf, 0))
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, named, parts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if !names_id(name) {
                    members(value, is_secret_name(name), parts);
                }
            }
        }
        _ => {}
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `token_uri` and `auth_type` say where and how.
    let about =
        ["uri", "url", "type", "expiry", "expires", "expires_in", "endpoint", "host", "method", "provider"];
    let says = SECRET_NAMES.iter().any(|word| name.contains(word)) || name == "key" || name.ends_with("_key");
    says && !about.iter().any(|end| name.ends_with(end))
}

fn names_id(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = ["_id", "-id", "fingerprint", "thumbprint", "email"];
    lower == "id" || lower == "kid" || name.ends_with("Id") || ends.iter().any(|end| lower.ends_with(end))
}

/// A long word that nobody chose: letters that make no words, or mixed with digits in no order.
fn looks_random(word: &str) -> bool {
    let word = word.as_bytes();
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'=' | b'+' | b'%' | b'~');
    if word.len() < LEAST_RANDOM || !word.iter().all(plain) {
        return false;
    }
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = word.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    // Numbers and `my-project-4711` are names; a hexadecimal word has few letters to judge by.
    letters >= 4
        && entropy(word) >= 3.0
        && (letters::are_random(word) || digits * 5 >= word.len() && !letters::are_words(word))
}

/// Percent escapes undone (RFC 3986, section 2.1).
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

/// Cuts a vendor's prefix such as `ghp_`, `sk-ant-api03-` or `AKIA`: short words of letters that end in a separator,
/// and the numbers of an account behind them (Slack's `xoxb-<team>-<bot>-`), while enough is left.
fn without_prefix(value: &str) -> &str {
    let mut rest = value;
    for _ in 0..6 {
        let Some(at) = rest.bytes().take(20).position(|byte| matches!(byte, b'_' | b'-' | b'.')) else {
            break;
        };
        let word = &rest[..at];
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        let plain = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        // `xapp-1-A0B1C2D3E4F-`: the id of an application.
        let id = value.starts_with("xapp-") && word.len() <= 12;
        if !(digits || plain && word.len() <= 8 || id) || rest.len() - at - 1 < 16 {
            break;
        }
        rest = &rest[at + 1..];
    }
    for prefix in ["AKIA", "ASIA", "AIza", "eyJ"] {
        if let Some(cut) = rest.strip_prefix(prefix).filter(|cut| cut.len() >= 16) {
            return cut;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    const LINE: &str = "MzEfYyjiWA4R4q7Zr2vT9wLx4KpB8mNq7Zr2vT9wLx4KpB8mNGB4t7NXp98C3SC6";

    fn parts(value: &str) -> Vec<String> {
        let text = |part| String::from_utf8(part).unwrap();
        secret_parts(value.as_bytes()).into_iter().map(text).collect()
    }

    #[test]
    fn of_a_value_only_what_is_secret_is_taken() {
        let secret = "kq8ZtVn3LmXr7CyWb2Hs9Dfa";
        let jwt = format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{secret}");
        for value in [
            format!("https://hooks.slack.com/services/T03QX7Z2M/B05LK9PWD/{secret}"),
            format!("https://discord.com/api/webhooks/104563728190456372/{secret}"),
            format!("Bearer {jwt}"),
            format!("Authorization: Bearer {jwt}"),
            format!("bearer {secret}"),
            format!("token {secret}"),
            format!("Basic {}", STANDARD.encode(format!("administrator:{secret}"))),
            format!("https://{secret}@o447951.ingest.sentry.io/5429219"),
            format!("https://api.telegram.org/bot123456789:{secret}"),
            format!("https://api.telegram.org/bot123456789:{secret}/sendMessage"),
            format!("123456789:{secret}"),
            format!(
                "https://acct.blob.core.windows.net/c?sv=2022-11-02&ss=b&srt=sco&se=2027-01-01T00:00:00Z&sig={secret}"
            ),
            format!("jdbc:postgresql://db.internal:5432/app?user=u&password={secret}"),
            format!("jdbc:sqlserver://db.internal:1433;user=application;password={secret};"),
            format!("user:{secret}@db.internal.example.com:5432"),
            format!("administrator:{secret}"),
            format!("redis://:{secret}@cache.internal:6379/0"),
            format!(
                "mongodb://app:{secret}@a.internal:27017,b.internal:27017/app?retryWrites=true&w=majority"
            ),
            format!("AKIAZ3MSJV4WQ7TB6XNE:{secret}"),
            format!("AWS_SECRET_ACCESS_KEY={secret}"),
            format!("export STRIPE_KEY=\"{secret}\""),
            format!("DATABASE_URL=postgres://application:{secret}@db.internal.example.com/app"),
            format!("xoxb-2048576019283-3847561029384-{secret}"),
            format!("xapp-1-A0B1C2D3E4F-3847561029384-{secret}"),
            format!("MTA0NTYzNzI4MTkwNDU2Mzcy.Cl2FMQ.{secret}"),
            format!(
                r#"{{"installed":{{"client_id":"1045637281904-q7zr2vt9wlx4kpb8.apps.googleusercontent.com","project_id":"my-shop-prod-4711","auth_uri":"https://accounts.google.com/o/oauth2/auth","token_uri":"https://oauth2.googleapis.com/token","client_secret":"{secret}","redirect_uris":["http://localhost"]}}}}"#
            ),
            format!(r#"{{"type":"service_account","private_key_id":"{LINE}","data":["{secret}"]}}"#),
        ] {
            assert_eq!(parts(&value), [secret], "{value}");
        }
    }

    #[test]
    fn a_word_that_is_all_secret_is_taken_whole() {
        for value in ["q7#Zr2/vT9+wLx4KpB8=mN1", "cTcjWnIyL3ZUOSt3THg0==", "$p:ssw@rd9!", "K9=x7Zr2vT9wL"] {
            assert_eq!(parts(value), [value]);
        }
    }

    #[test]
    fn a_key_is_read_in_json_and_with_escaped_line_breaks() {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n{LINE}\n-----END PRIVATE KEY-----\n");
        let expected = [&KEY[40..], LINE];
        let account = serde_json::json!({
            "type": "service_account", "project_id": "my-shop-prod-4711", "private_key": pem,
            "client_email": "bot@my-shop-prod-4711.iam.gserviceaccount.com", "client_id": "104563728190456372819",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth", "universe_domain": "googleapis.com",
        });
        let escaped = pem.trim().replace('\n', "\\n");
        for value in [pem, account.to_string(), escaped.clone(), format!("\"{escaped}\"")] {
            assert_eq!(parts(&value), expected, "{value}");
        }
    }

    #[test]
    fn an_escaped_password_is_taken_as_it_stands_and_decoded() {
        let found = parts("postgres://u:kq%238ZtV%40n3LmX@db.internal/app");
        assert_eq!(found, ["kq%238ZtV%40n3LmX", "kq#8ZtV@n3LmX"]);
        assert_eq!(parts("postgres://u:kq/8ZtV#n3LmX@db.internal/app"), ["kq/8ZtV#n3LmX"]);
        assert!(parts("https://hooks.example.com/services/deploy?user=application").is_empty());
    }
}
