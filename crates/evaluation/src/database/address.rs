//! Where a database is, from its URL. Nothing here says what is in a URL that it refuses: it may hold a password anywhere.

use std::{fmt, net::IpAddr};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The port of a URL that names none.
const PORT: u16 = 5432;

/// How the way to the database is kept from others (`sslmode`, as libpq has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Disable,
    /// Encrypted; whose certificate it is is not looked at.
    Require,
    /// Encrypted, and the certificate is the host's.
    VerifyFull,
}

/// Where a database is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) tls: Tls,
}

impl Address {
    /// The address that a URL says.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let shape = || "it must be postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=…], one host, with %XX for special characters".to_owned();
        let parsed = Url::parse(url).map_err(|_| shape())?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| shape());
        let database = decoded(parsed.path().trim_start_matches('/'))?;
        let is_whole = matches!(parsed.scheme(), "postgres" | "postgresql") && parsed.fragment().is_none();
        if !is_whole || parsed.username().is_empty() || database.is_empty() || database.contains('/') {
            return Err(shape());
        }
        let host = match parsed.host().ok_or_else(shape)? {
            Host::Domain(name) => decoded(name)?,
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        if host.is_empty() || host.contains(['/', ',']) {
            return Err(shape());
        }
        let mut tls = Tls::VerifyFull;
        for (key, value) in parsed.query_pairs() {
            if key != "sslmode" {
                return Err("of the options after '?' only sslmode is read here".to_owned());
            }
            tls = match &*value {
                "disable" => Tls::Disable,
                "require" => Tls::Require,
                "verify-full" => Tls::VerifyFull,
                "allow" | "prefer" => return Err(format!("sslmode={value}: it may end without TLS; say require, verify-full or disable")),
                "verify-ca" => return Err("sslmode=verify-ca: it is not done here; say verify-full".to_owned()),
                _ => return Err("sslmode: must be disable, require or verify-full".to_owned()),
            };
        }
        Ok(Self {
            host,
            port: parsed.port().unwrap_or(PORT),
            database,
            user: decoded(parsed.username())?,
            password: parsed.password().map(decoded).transpose()?,
            tls,
        })
    }

    /// Whether the certificate is to be that of the host.
    pub(crate) fn needs_authorities(&self) -> bool {
        self.tls == Tls::VerifyFull
    }

    /// Whether nobody else can listen on the way, since it does not leave the machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, user, tls, .. } = self;
        write!(f, "postgres://{user}@{host}:{port}/{database} ({tls:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_whole() {
        let address = Address::parse("postgresql://eva%20l:p%40ss%2Fword@db.example:5433/jobs?sslmode=require").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.database.as_str()), ("db.example", 5433, "jobs"));
        assert_eq!((address.user.as_str(), address.password.as_deref(), address.tls), ("eva l", Some("p@ss/word"), Tls::Require));
        let bare = Address::parse("postgres://q@[::1]/jobs").unwrap();
        assert_eq!((bare.host.as_str(), bare.port, bare.password.as_deref(), bare.tls), ("::1", 5432, None, Tls::VerifyFull));
        assert!(bare.is_loopback() && !address.is_loopback());
    }

    #[test]
    fn what_is_refused_says_no_password() {
        for wrong in [
            "",
            "jobs",
            "host=db user=q password=hunter22",
            "mysql://q:hunter22@db/jobs",
            "postgres://db/jobs",
            "postgres://q:hunter22@db",
            "postgres://q:hunter22@/jobs",
            "postgres://q:hunter22@a,b/jobs",
            "postgres://q:hunter22@a:1,b:2/jobs",
            "postgres://q:5/hunter22@db/jobs",
            "postgres://q:5?hunter22@db/jobs",
            "postgres://q:5#hunter22@db/jobs",
            "postgres://q:hunter22/@db/jobs",
            "postgres://q@db/jobs?password=hunter22",
            "postgres://q@db/jobs?sslmode=hunter22",
            "postgres://q:hunter22@db/jobs?sslmode=prefer",
            "postgres://q:hunter22@db/jobs?sslmode=verify-ca",
            "postgres://q:hunter22@db/jobs?sslrootcert=/ca.pem",
        ] {
            let fault = Address::parse(wrong).unwrap_err();
            assert!(!fault.contains("hunter22"), "{wrong}: {fault}");
        }
        let address = Address::parse("postgres://q:hunter22@db/jobs").unwrap();
        assert!(!format!("{address:?}").contains("hunter22"));
    }
}
