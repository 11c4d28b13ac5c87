//! Where a PostgreSQL server is and as whom to connect. Parsed from a URL that holds no password.

use std::fmt;
use std::path::PathBuf;

use url::form_urlencoded;

/// A server, a database in it and a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub(crate) address: Address,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Password>,
}

/// How it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// Over the socket in this folder.
    Socket { folder: PathBuf, port: u16 },
    /// Over the loopback interface, which nobody else can listen to.
    Loopback { host: String, port: u16 },
    /// Over a network: always with TLS, always with the name in the certificate. `root` is the authority
    /// to trust instead of the public ones.
    Network { host: String, port: u16, root: Option<PathBuf> },
}

/// The password of a role. It is not shown, and goes nowhere but to the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why a URL of a server was refused. No variant quotes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServerError {
    /// Another scheme, or no URL at all.
    #[error(
        "a URL like postgres://USER@HOST/DATABASE or postgres://USER@/DATABASE?host=/run/postgresql is expected"
    )]
    Scheme,
    /// It would stand in a file, in a list of processes and in a shell's history.
    #[error("a password does not stand in the URL; name a file that holds it")]
    Password,
    /// Whom to connect as is not left to the environment.
    #[error("the URL names no user")]
    User,
    /// Nor is the database.
    #[error("the URL names no database")]
    Database,
    /// A number from 1 to 65535 is expected.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Neither a host nor the folder of a socket.
    #[error("the URL names no host; for a socket add ?host=/run/postgresql")]
    Host,
    /// Only `host`, `port`, `user`, `dbname`, `sslmode` and `sslrootcert` are known.
    #[error("the URL has an unknown parameter")]
    Parameter,
    /// What is stored would cross a network readable, or to whoever answers.
    #[error(
        "over a network the connection is encrypted and the certificate checked: sslmode is verify-full or absent"
    )]
    Tls,
}

const DEFAULT_PORT: u16 = 5432;

/// What a URL says, before it is known to be complete.
#[derive(Default)]
struct Written {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    mode: Option<String>,
    root: Option<PathBuf>,
}

impl Server {
    /// Reads a URL in the form of libpq. Nothing that it leaves out is taken from the environment.
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or(ServerError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(ServerError::Password);
        }
        let (host, port) = split_port(place)?;
        let said = |text: &str| (!text.is_empty()).then(|| decoded(text));
        let mut written =
            Written { host: said(host), port, user: said(user), database: said(path), ..Written::default() };
        written.read_query(query)?;
        written.mean()
    }

    /// Adds the password.
    #[must_use]
    pub fn with_password(mut self, password: String) -> Self {
        self.password = Some(Password(password));
        self
    }

    /// The role that is connected as.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl Written {
    fn read_query(&mut self, query: &str) -> Result<(), ServerError> {
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "host" => self.host = Some(value),
                "port" => self.port = Some(port(&value)?),
                "user" => self.user = Some(value),
                "dbname" => self.database = Some(value),
                "sslmode" => self.mode = Some(value),
                "sslrootcert" => self.root = Some(value.into()),
                "password" => return Err(ServerError::Password),
                _ => return Err(ServerError::Parameter),
            }
        }
        Ok(())
    }

    fn mean(self) -> Result<Server, ServerError> {
        let host = self.host.ok_or(ServerError::Host)?;
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let address = if host.starts_with('/') {
            Address::Socket { folder: host.into(), port }
        } else if matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") {
            Address::Loopback { host, port }
        } else if self.mode.is_none_or(|mode| mode == "verify-full") {
            Address::Network { host, port, root: self.root }
        } else {
            return Err(ServerError::Tls);
        };
        let user = self.user.ok_or(ServerError::User)?;
        let database = self.database.ok_or(ServerError::Database)?;
        Ok(Server { address, user, database, password: None })
    }
}

/// The server without its password, for people.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, .. } = self;
        match &self.address {
            Address::Socket { folder, port } => {
                write!(f, "postgres://{user}@/{database}?host={}&port={port}", folder.display())
            }
            Address::Loopback { host, port } | Address::Network { host, port, .. } => {
                write!(f, "postgres://{user}@{host}:{port}/{database}")
            }
        }
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn split_port(place: &str) -> Result<(&str, Option<u16>), ServerError> {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, Some(port(digits)?))),
            None => Ok((host, None)),
        };
    }
    match place.rsplit_once(':') {
        Some((host, digits)) => Ok((host, Some(port(digits)?))),
        None => Ok((place, None)),
    }
}

fn port(digits: &str) -> Result<u16, ServerError> {
    digits.parse().ok().filter(|port| *port > 0).ok_or(ServerError::Port)
}

/// Percent-decoded; a `+` is a plus sign here.
fn decoded(text: &str) -> String {
    let text = text.replace('+', "%2B");
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_a_loopback_and_a_network() {
        let socket = Server::parse("postgres://me@/db?host=/run/postgresql").unwrap();
        assert_eq!(socket.address, Address::Socket { folder: "/run/postgresql".into(), port: 5432 });
        assert_eq!(socket, Server::parse("postgresql://me@%2Frun%2Fpostgresql/db").unwrap());
        assert_eq!(socket, Server::parse("postgres:///?host=/run/postgresql&user=me&dbname=db").unwrap());
        let local = Server::parse("postgres://a+b@localhost:5433/db").unwrap();
        assert_eq!(local.address, Address::Loopback { host: "localhost".into(), port: 5433 });
        assert_eq!(local.user(), "a+b");
        let far = Server::parse("postgres://me@db.example/db?sslrootcert=ca.pem").unwrap();
        let address = Address::Network { host: "db.example".into(), port: 5432, root: Some("ca.pem".into()) };
        assert_eq!(far.address, address);
        assert_eq!(Server::parse("postgres://me@[::1]:1/db").unwrap().to_string(), "postgres://me@::1:1/db");
    }

    #[test]
    fn what_is_incomplete_readable_on_the_way_or_holds_a_password_is_refused() {
        for (url, error) in [
            ("mysql://me@h/db", ServerError::Scheme),
            ("", ServerError::Scheme),
            ("postgres://me:word@h/db", ServerError::Password),
            ("postgres://me@h/db?password=word", ServerError::Password),
            ("postgres://h/db", ServerError::User),
            ("postgres://me@h", ServerError::Database),
            ("postgres://me@/db", ServerError::Host),
            ("postgres://me@h:0/db", ServerError::Port),
            ("postgres://me@h:99999/db", ServerError::Port),
            ("postgres://me@h/db?options=-csynchronous_commit%3Doff", ServerError::Parameter),
            ("postgres://me@h/db?sslmode=require", ServerError::Tls),
            ("postgres://me@10.0.0.1/db?sslmode=disable", ServerError::Tls),
        ] {
            assert_eq!(Server::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let server = Server::parse("postgres://me@h/db").unwrap().with_password("hunter2".to_owned());
        assert!(!format!("{server:?} {server}").contains("hunter2"));
    }
}
