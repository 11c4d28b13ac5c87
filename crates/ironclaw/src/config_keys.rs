//! Every key of the configuration: for `config explain`, and for the suggestion when one is mistyped.

use crate::exit::Failure;

/// One key.
pub struct Key {
    /// Its path with dots. `*` stands for a name that the owner chooses.
    pub path: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What holds when it is absent.
    pub default: &'static str,
    /// How it is written.
    pub example: &'static str,
}

macro_rules! keys {
    ($($path:literal: $means:literal, $default:literal, $example:literal;)*) => {
        /// All keys, tables before their members.
        pub static KEYS: &[Key] = &[$(Key { path: $path, means: $means, default: $default, example: $example },)*];
    };
}

keys! {
    "model": "The language model, any endpoint with the OpenAI-compatible chat-completions protocol.",
        "the offline provider, which matches a request to the installed tools",
        "[model]\nurl = \"https://api.openai.com/v1\"\nname = \"gpt-4.1\"\nkey = \"OPENAI_KEY\"";
    "model.url": "The base address; /chat/completions is added. Must be https where a key is used.", "none", "url = \"https://api.openai.com/v1\"";
    "model.name": "The model's name at that endpoint.", "none", "name = \"gpt-4.1\"";
    "model.key": "The secret that is sent as bearer token. It also needs a grant: ironclaw secret grant NAME --tool agent --host HOST --method POST --inject bearer", "no key is sent", "key = \"OPENAI_KEY\"";
    "model.max_tokens": "The longest answer in tokens; taken from the budget before the request is sent, and corrected to what the answer says was used.", "2048", "max_tokens = 2048";
    "model.price": "Price of a million tokens in millionths of a currency unit, for [budget] money.", "0", "price = 10000000";
    "export": "A collector of OpenTelemetry logs that the records of the audit log are handed to, in OTLP over HTTP as JSON. By ironclaw audit export --push, and by itself while a chat or the proxy runs.",
        "records stay in the log", "[export]\nurl = \"https://collector.internal/v1/logs\"";
    "export.url": "The collector's endpoint for logs, whole. Must be https where a key is used.", "none", "url = \"https://collector.internal/v1/logs\"";
    "export.key": "The secret that is sent along. It also needs a grant: ironclaw secret grant NAME --tool log --host HOST --method POST --inject bearer", "no key is sent", "key = \"COLLECTOR_KEY\"";
    "export.inject": "Where the key stands: bearer, basic:USER, header:NAME or query:NAME.", "bearer", "inject = \"header:x-api-key\"";
    "store": "Where the database is.", "a file in the data folder", "[store]\nurl = \"postgres://ironclaw@/ironclaw?host=/run/postgresql\"\npassword_file = \"database-password\"";
    "store.url": "A PostgreSQL server, a database and the role that reads and writes rows; never a password. Over a network the connection is encrypted and the certificate checked (sslrootcert names another authority).", "a file in the data folder", "url = \"postgres://ironclaw@db.internal/ironclaw\"";
    "store.password_file": "A file that holds the role's password in one line and that only you can read.", "no password", "password_file = \"database-password\"";
    "safety": "How text is screened.", "the shipped rules", "[safety]\nowner = \"block\"";
    "safety.owner": "What happens to suspicious text that you type yourself: flag or block.", "flag", "owner = \"block\"";
    "safety.max_length": "The longest text in bytes, from 1024 to 16777216. A longer one is cut, or refused where cutting would change its meaning.", "262144", "max_length = 65536";
    "safety.allow": "Findings that you know and accept.", "none", "[[safety.allow]]\nfingerprint = \"0123456789abcdef\"\nuntil = \"2027-01-31\"\nreason = \"the key of the documentation\"";
    "safety.allow.fingerprint": "The finding, by the 16 digits that it shows.", "none", "fingerprint = \"0123456789abcdef\"";
    "safety.allow.until": "The last day (UTC) on which it is accepted.", "for good", "until = \"2027-01-31\"";
    "safety.allow.reason": "Why, for whoever reads the configuration.", "none", "reason = \"the key of the documentation\"";
    "safety.rules": "Another action for single rules: allow, warn, flag, redact or block.", "the shipped actions", "[safety.rules]\ngithub-pat = \"block\"";
    "safety.rules.*": "The action of one rule, by its id as findings show it: for every way that text takes, or for single ones.", "the shipped action", "[safety.rules]\ngithub-pat = { result = \"block\", reply = \"redact\" }";
    "safety.rules.*.*": "The action on one way that text takes: input, result, arguments, reply, outbound, response, description or log.", "the shipped action", "[safety.rules]\ngithub-pat = { result = \"block\" }";
    "safety.attacks": "Another action for attacks of a severity. redact cuts the dangerous span out and lets the rest pass.", "low warns, medium flags, high and critical block on the way to the model", "[safety.attacks]\nhigh = \"redact\"";
    "safety.attacks.*": "The action for attacks of one severity: low, medium, high or critical.", "see safety.attacks", "[safety.attacks]\nmedium = \"block\"";
    "safety.attacks.*.*": "The action on one way that text takes.", "see safety.attacks", "[safety.attacks]\nhigh = { result = \"redact\" }";
    "safety.leaks": "Another action for leaks of a severity. A value of the vault is always blocked.", "low warns, medium and high are redacted or blocked, critical blocks", "[safety.leaks]\nhigh = \"block\"";
    "safety.leaks.*": "The action for leaks of one severity: low, medium, high or critical.", "see safety.leaks", "[safety.leaks]\nhigh = \"block\"";
    "safety.leaks.*.*": "The action on one way that text takes.", "see safety.leaks", "[safety.leaks]\nhigh = { reply = \"block\" }";
    "safety.thresholds": "When signals count.", "the shipped thresholds", "[safety.thresholds]\nnear = 2048";
    "safety.thresholds.near": "Bytes between two medium signals of an attack that are high together.", "1024", "near = 2048";
    "safety.thresholds.special_characters": "Percent of a stretch of text that special characters must make up to be noted; over 100 never.", "50", "special_characters = 60";
    "safety.thresholds.model_margin": "Added to the threshold of the model that knows orders to an assistant: over 0 it speaks less often, below 0 more.", "0", "model_margin = 200";
    "workspace": "The folder that the file tools may use.", "no file tools", "[workspace]\ndir = \"/home/me/notes\"";
    "workspace.dir": "The folder. It may not be or hold your home folder, key folders or this program's own.", "no file tools", "dir = \"/home/me/notes\"";
    "egress": "The door to the network.", "the system's name servers, public addresses only", "[egress]\nnameservers = [\"9.9.9.9:53\"]";
    "egress.nameservers": "Name servers to ask.", "the system's", "nameservers = [\"9.9.9.9:53\"]";
    "egress.exception": "A name that leads to an address which is otherwise refused. Exactly this name and port are dialled at exactly this address.", "none",
        "[[egress.exception]]\nhost = \"wiki.internal\"\nport = 443\naddress = \"10.0.0.7:443\"\nca = \"internal-ca.pem\"";
    "egress.exception.host": "The name in the request.", "none", "host = \"wiki.internal\"";
    "egress.exception.port": "The port in the request.", "none", "port = 443";
    "egress.exception.address": "Where it is dialled.", "none", "address = \"10.0.0.7:443\"";
    "egress.exception.ca": "A PEM file with the authority that signs this host's certificate.", "the machine's trust store", "ca = \"internal-ca.pem\"";
    "egress.exception.containers": "Whether commands in containers may reach it too, where their own rules name the host.", "false", "containers = true";
    "sandbox": "The container in which commands run.", "Docker Engine, the image of ironclaw sandbox build-image", "[sandbox]\ndowngrades = [\"unverifiable-runtime\"]";
    "sandbox.engine": "The socket of Docker Engine.", "/var/run/docker.sock", "engine = \"/run/user/1000/docker.sock\"";
    "sandbox.image": "The image, by its digest: sha256:HEX or NAME@sha256:HEX, never by a name that can come to mean another one. ironclaw sandbox build-image --from NAME pins one without this key.", "the image of ironclaw sandbox build-image", "image = \"debian@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";
    "sandbox.registries": "Where ironclaw sandbox build-image --from may have the engine pull images from: hosts, with their port where the name of an image says one. Docker Hub is docker.io.", "none", "registries = [\"docker.io\", \"registry.example:5000\"]";
    "sandbox.runtime": "The OCI runtime, by the engine's name for it, as in docker info.", "the engine's default", "runtime = \"runsc\"";
    "sandbox.downgrades": "Promises that you give up. unverifiable-runtime: a runtime of which it cannot be told whether known holes are closed, as a distribution's runc, crun or NVIDIA's. vulnerable-runtime: a runc with known holes. Each use is recorded.", "none", "downgrades = [\"unverifiable-runtime\"]";
    "sandbox.full_access": "Whether ironclaw exec --policy full-access may run a command outside any container. It has then everything that you have: your files, your keychain, this program's memory.", "false", "full_access = true";
    "sandbox.memory_mib": "Memory of a run in MiB, with what it writes to temporary folders. There is no swap.", "2048", "memory_mib = 4096";
    "sandbox.cpus": "Processors.", "2", "cpus = 4";
    "sandbox.pids": "Processes and threads.", "512", "pids = 2048";
    "sandbox.seconds": "The time a run may take.", "3600", "seconds = 600";
    "sandbox.output_mib": "What a run may print, in MiB.", "64", "output_mib = 256";
    "shell": "What the commands of the agent may do. Without it the agent has no shell; it needs a workspace, and an engine that can confine commands.", "no shell", "[shell]\npolicy = \"read-only\"";
    "shell.policy": "read-only: the workspace can be read. workspace-write: it can be changed, but for what other programs obey.", "read-only", "policy = \"workspace-write\"";
    "shell.allow": "Where commands may go, as for ironclaw exec --allow, with hosts written in full.", "nowhere", "allow = [\"GET:pypi.org/simple\"]";
    "shell.secrets": "Secrets that commands may use without holding them, as for ironclaw exec --secret. Each also needs a grant to the proxy.", "none", "secrets = [\"EXAMPLE_KEY\"]";
    "shell.seconds": "The time of one command, within sandbox.seconds.", "120", "seconds = 600";
    "tools": "What you say about single tools.", "allow", "[tools.weather]\npermission = \"ask\"";
    "tools.*": "One tool.", "allow", "[tools.weather]\npermission = \"ask\"";
    "tools.*.permission": "allow: whenever the floor and the policies permit. ask: before every call. never: refuse.", "allow", "permission = \"ask\"";
    "budget": "Upper bounds for one day (UTC); beyond them everything is refused.", "no bounds", "[budget]\ncalls = 200\ntokens = 500000\nmoney = 2000000";
    "budget.calls": "Tool calls.", "no bound", "calls = 200";
    "budget.tokens": "Tokens sent to and received from the model.", "no bound", "tokens = 500000";
    "budget.money": "Money for the model in millionths of the currency unit of model.price.", "no bound", "money = 2000000";
    "alert": "What is told of critical findings and leaks.", "the terminal alone", "[alert]\ncommand = [\"/usr/local/bin/page-me\"]";
    "alert.command": "A program and its fixed arguments; the finding's id is added as the last one and nothing else is passed.", "none", "command = [\"/usr/local/bin/page-me\"]";
}

/// Refuses the first key that does not exist and suggests the one that was meant.
pub fn check(table: &toml::Table) -> Result<(), Failure> {
    walk(table, "")
}

fn walk(table: &toml::Table, prefix: &str) -> Result<(), Failure> {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let Some(canonical) = find(&path) else {
            return Err(unknown(&path));
        };
        match value {
            toml::Value::Table(inner) => walk(inner, canonical)?,
            toml::Value::Array(items) => {
                for inner in items.iter().filter_map(toml::Value::as_table) {
                    walk(inner, canonical)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The key that a path means; a name of the owner's own matches `*`.
pub fn find(path: &str) -> Option<&'static str> {
    let same = |key: &&Key| {
        let (mut ours, mut theirs) = (key.path.split('.'), path.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(our), Some(their)) if our == their || our == "*" => {}
                _ => return false,
            }
        }
    };
    KEYS.iter()
        .filter(|key| !key.path.contains('*'))
        .find(same)
        .or_else(|| KEYS.iter().find(same))
        .map(|key| key.path)
}

/// The error for a key that does not exist, with the one that was probably meant.
pub fn unknown(path: &str) -> Failure {
    // The key is foreign text, but the owner's own file; only its plain characters are repeated.
    let plain: String =
        path.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).take(64).collect();
    let nearest = KEYS
        .iter()
        .min_by_key(|key| strsim::levenshtein(key.path, path))
        .filter(|key| strsim::levenshtein(key.path, path) <= 3);
    let hint = nearest.map(|key| format!("; did you mean {}?", key.path)).unwrap_or_default();
    Failure::usage(format!(
        "configuration: there is no key {plain}{hint}\n  all keys: ironclaw config explain"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_parses_and_every_key_is_known() {
        for key in KEYS {
            assert_eq!(find(key.path), Some(key.path));
            assert!(toml::from_str::<toml::Table>(key.example).is_ok(), "{}", key.path);
        }
        assert_eq!(find("tools.weather.permission"), Some("tools.*.permission"));
        assert_eq!(find("budget.cals"), None);
    }
}
