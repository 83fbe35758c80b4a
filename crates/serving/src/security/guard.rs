use std::{net::SocketAddr, sync::Arc};

use http::HeaderMap;

use super::{
    keys::{Key, Keys},
    watched::Watched,
};
use crate::{
    config::{Admin, AuthConfig},
    error::{Kind, ServiceError},
};

/// Decides who may call what.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    keys: Option<Arc<Watched<Keys>>>,
    /// Whether admin rpcs may be called at all.
    admin: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("an API key is needed: send it as 'authorization: Bearer KEY'")]
    NoKey,
    #[error("the API key is not known")]
    UnknownKey,
    #[error("the key '{name}' does not have the scope for {service}/{method}")]
    Scope { name: Arc<str>, service: String, method: String },
    #[error("{method} is an admin rpc: this server takes none ({reason})")]
    NoAdmin { method: String, reason: &'static str },
}

impl ServiceError for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::NoKey | Self::UnknownKey => Kind::Unauthenticated,
            Self::Scope { .. } | Self::NoAdmin { .. } => Kind::PermissionDenied,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoKey => "API_KEY_MISSING",
            Self::UnknownKey => "API_KEY_UNKNOWN",
            Self::Scope { .. } => "SCOPE_MISSING",
            Self::NoAdmin { .. } => "ADMIN_OFF",
        }
    }
}

impl Guard {
    pub(crate) fn new(config: &AuthConfig, address: SocketAddr) -> Result<Self, String> {
        let keys = if config.keys.as_os_str().is_empty() {
            None
        } else {
            let read = |contents: &[Vec<u8>]| Keys::read(contents.first().map_or(&[], Vec::as_slice));
            Some(Arc::new(Watched::open(vec![config.keys.clone()], read)?))
        };
        let admin = match config.admin {
            Admin::Off => false,
            Admin::On => true,
            // With keys the scope decides; without, only who is on this machine is let in.
            Admin::Auto => keys.is_some() || address.ip().is_loopback(),
        };
        Ok(Self { keys, admin })
    }

    /// The key that lets the call in; `None` where none is needed.
    pub(crate) fn check(&self, service: &str, method: &str, is_admin: bool, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Refused> {
        if is_admin && !self.admin {
            return Err(Refused::NoAdmin { method: method.to_owned(), reason: "see server.auth.admin" });
        }
        let Some(keys) = &self.keys else { return Ok(None) };
        // Probes have no keys.
        if service == "grpc.health.v1.Health" {
            return Ok(None);
        }
        let given = given(headers).ok_or(Refused::NoKey)?;
        let key = Arc::clone(keys.get().find(given).ok_or(Refused::UnknownKey)?);
        // What is served is no secret to who has a key at all.
        if service.starts_with("grpc.reflection.") || key.allows(service, method, is_admin) {
            return Ok(Some(key));
        }
        Err(Refused::Scope { name: Arc::clone(&key.name), service: service.to_owned(), method: method.to_owned() })
    }

    /// Looks at the key file again.
    pub(crate) fn refresh(&self) {
        self.keys.iter().for_each(|keys| keys.refresh());
    }
}

fn given(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::security::fresh_key;

    const SERVICE: &str = "quintet.text.v1.TextService";

    fn guard(keys: &Path, admin: Admin, address: &str) -> Guard {
        Guard::new(&AuthConfig { keys: keys.to_owned(), admin }, address.parse().unwrap()).unwrap()
    }

    fn bearer(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap())])
    }

    #[test]
    fn keys_let_in_are_read_again_and_survive_a_broken_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (first, table) = fresh_key("first", &["text".to_owned()]);
        std::fs::write(file.path(), table).unwrap();
        let guard = guard(file.path(), Admin::Auto, "0.0.0.0:1");
        let call = |key: &str| guard.check(SERVICE, "Generate", false, &bearer(key));
        assert_eq!(&*call(&first).unwrap().unwrap().name, "first");
        assert!(matches!(guard.check(SERVICE, "Generate", false, &HeaderMap::new()), Err(Refused::NoKey)));
        assert!(matches!(guard.check("quintet.image.v1.ImageService", "Generate", false, &bearer(&first)), Err(Refused::Scope { .. })));
        assert!(guard.check("grpc.health.v1.Health", "Check", false, &HeaderMap::new()).unwrap().is_none());

        std::fs::write(file.path(), "[[key]").unwrap();
        guard.refresh();
        assert!(call(&first).is_ok());
        let (second, table) = fresh_key("second", &["*".to_owned()]);
        std::fs::write(file.path(), table).unwrap();
        guard.refresh();
        assert!(matches!(call(&first), Err(Refused::UnknownKey)));
        assert!(call(&second).is_ok());
    }

    #[test]
    fn admin_rpcs_are_for_this_machine_or_a_scope() {
        let none = Path::new("");
        let admin = |guard: &Guard| guard.check(SERVICE, "Load", true, &HeaderMap::new()).is_ok();
        assert!(admin(&guard(none, Admin::Auto, "127.0.0.1:1")));
        assert!(!admin(&guard(none, Admin::Auto, "0.0.0.0:1")));
        assert!(!admin(&guard(none, Admin::Off, "127.0.0.1:1")));
        assert!(admin(&guard(none, Admin::On, "0.0.0.0:1")));
    }
}
