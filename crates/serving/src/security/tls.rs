//! TLS for the listener: certificates are read again when they change on disk.

use std::{path::PathBuf, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig as Rustls,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};

use super::watched::Watched;
use crate::config::TlsConfig;

/// Takes up TLS connections with the certificate that is there now.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    config: Arc<Watched<Arc<Rustls>>>,
}

impl Acceptor {
    /// The acceptor of a configuration; `None` where it names no certificate.
    pub(crate) fn new(config: &TlsConfig) -> Result<Option<Self>, String> {
        if config.certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut paths: Vec<PathBuf> = vec![config.certificate.clone(), config.key.clone()];
        if !config.client_ca.as_os_str().is_empty() {
            paths.push(config.client_ca.clone());
        }
        let read = |contents: &[Vec<u8>]| match contents {
            [certificate, key, rest @ ..] => build(certificate, key, rest.first().map(Vec::as_slice)),
            _ => Err("a certificate and a key are needed".to_owned()),
        };
        Ok(Some(Self { config: Arc::new(Watched::open(paths, read)?) }))
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config: Arc<Rustls> = Arc::clone(&*self.config.get());
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Looks at the files again.
    pub(crate) fn refresh(&self) {
        self.config.refresh();
    }
}

fn build(certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Arc<Rustls>, String> {
    let chain = certificates(certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the private key: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let clients: Arc<dyn ClientCertVerifier> = match client_ca {
        None => Arc::new(NoClientAuth),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem, "client CA")? {
                roots.add(authority).map_err(|error| format!("the client CA: {error}"))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().map_err(|error| error.to_string())?
        }
    };
    let mut config = Rustls::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| format!("the certificate and its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("the {what}: {error}"))?;
    if all.is_empty() { Err(format!("the {what}: no certificate in it")) } else { Ok(all) }
}
