//! The environment variables that the caller hands over.

use object_store::ClientOptions;

/// Parts of the names of variables whose values are secret.
const SECRET: [&str; 8] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "SAS", "SIGNATURE", "CREDENTIAL", "PROXY"];

/// Environment variables: what stores are asked with.
#[derive(Clone)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(crate) fn new(variables: Vec<(String, String)>) -> Self {
        Self(variables)
    }

    /// The value of the first of these that is set and not empty.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        let value = |name: &&str| self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str());
        names.iter().find_map(value)
    }

    /// The variables whose names begin so, with their names in lower case.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
    }

    /// A client that goes through the proxy that these variables name for `scheme`, and looks for none elsewhere.
    pub(crate) fn client(&self, scheme: &str) -> ClientOptions {
        let names: &[&str] = match scheme {
            "http" => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        };
        // The whole request has no time limit, since files may be of any size: every piece of it has one.
        let options = ClientOptions::new().with_timeout_disabled().with_allow_http(scheme == "http");
        match self.first(names) {
            Some(proxy) => options.with_proxy_url(proxy).with_proxy_excludes(self.first(&["no_proxy", "NO_PROXY"]).unwrap_or_default()),
            // Without a proxy of ours, the client would read the process's environment: one that is used for no host.
            None => options.with_proxy_url("http://127.0.0.1:9").with_proxy_excludes("*,0.0.0.0/0,::/0"),
        }
    }

    /// The text without the values of these variables that are secret, and without what is secret in URLs.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (key, value) in &self.0 {
            let key = key.to_ascii_uppercase();
            if value.len() >= 6 && SECRET.iter().any(|part| key.contains(part)) {
                text = text.replace(value, "…");
            }
        }
        let word = |word: &str| if word.contains("://") { crate::url::redact(word) } else { word.to_owned() };
        text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        let environment = environment(&[("AWS_SECRET_ACCESS_KEY", "hunter22"), ("AWS_REGION", "eu-central-1")]);
        let text = environment.scrub("hunter22 in eu-central-1 at https://a:b@host/p?sig=x failed");
        assert_eq!(text, "… in eu-central-1 at https://host/p failed");
    }

    #[test]
    fn variables_are_found_by_name_and_prefix() {
        let environment = environment(&[("HF_TOKEN", ""), ("OTHER", "x"), ("AWS_REGION", "r"), ("TIMEOUT", "1")]);
        assert_eq!(environment.first(&["HF_TOKEN"]), None);
        assert_eq!(environment.first(&["HF_TOKEN", "OTHER"]), Some("x"));
        assert_eq!(environment.with_prefix("AWS_").collect::<Vec<_>>(), [("aws_region".to_owned(), "r")]);
    }
}
