//! Who is let in, and over what.

use std::{fs, path::Path, process::Command};

use quintet_proto::{
    inference::{RepositoryModelUnloadRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
    tokenization::v1::{CountTokensRequest, EncodeInput, tokenization_service_client::TokenizationServiceClient},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_types::StatusExt;

use crate::harness::{Process, program, run};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for localhost and its key, as PEM.
fn certificate(authority: &Authority) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn write(folder: &Path, authority: &Authority) {
    let (certificate, key) = certificate(authority);
    fs::write(folder.join("certificate.pem"), certificate).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

async fn connect(process: &Process, authority: &Authority, identity: Option<(String, String)>) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let channel = Channel::from_shared(format!("https://{}", process.address)).unwrap().tls_config(tls).unwrap().connect().await?;
    // With TLS 1.3 a refused client learns of it only when it calls.
    Ok(channel)
}

async fn count(channel: Channel) -> Result<u32, tonic::Status> {
    let inputs = vec![EncodeInput { text: "And Moses".into(), ..EncodeInput::default() }];
    let request = CountTokensRequest { model: "gpt-english".into(), inputs, ..CountTokensRequest::default() };
    TokenizationServiceClient::new(channel).count_tokens(request).await.map(|answer| answer.into_inner().counts[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_asks_for_certificates_and_reads_new_ones_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (authority(), authority());
    write(folder.path(), &first);
    fs::write(folder.path().join("clients.pem"), first.pem()).unwrap();
    let set = |key: &str, file: &str| format!("server.tls.{key}={}", folder.path().join(file).display());
    let (certificate_file, key_file, clients) = (set("certificate", "certificate.pem"), set("key", "key.pem"), set("client_ca", "clients.pem"));
    let arguments = ["--set", &certificate_file, "--set", &key_file, "--set", &clients, "--set", "server.tls.reload_seconds=1"];
    let process = Process::start("quintet-tokenization", &arguments);

    let ours = Some(certificate(&first));
    assert!(count(connect(&process, &first, ours.clone()).await.unwrap()).await.unwrap() > 0);
    let nobody = match connect(&process, &first, None).await {
        Ok(channel) => count(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(nobody, "a client without a certificate is not let in");
    assert!(connect(&process, &second, ours.clone()).await.is_err(), "another authority did not sign the server's");
    let plain = Channel::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
    assert!(count(plain).await.is_err(), "without TLS nobody is let in");

    // The certificate is replaced on disk: new connections see the new one, in time.
    write(folder.path(), &second);
    let renewed = async {
        loop {
            if connect(&process, &second, ours.clone()).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), renewed).await.unwrap();
    // What cannot be read leaves the old one in place.
    fs::write(folder.path().join("key.pem"), "broken").unwrap();
    let noticed = async {
        while !process.log().contains("cannot be read again") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), noticed).await.unwrap();
    assert!(count(connect(&process, &second, ours).await.unwrap()).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_what_their_scopes_say_and_nothing_of_them_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let make = |name: &str, scopes: &[&str]| {
        let mut arguments = vec!["key", name, "--file", file.to_str().unwrap()];
        scopes.iter().for_each(|scope| arguments.extend(["--scope", scope]));
        let (code, key, message) = run("quintet", &arguments);
        assert_eq!(code, 0, "{message}");
        key.trim().to_owned()
    };
    let (reader, operator) = (make("reader", &["tokenization/CountTokens"]), make("operator", &["admin", "metrics"]));
    let hashes = fs::read_to_string(&file).unwrap();
    assert!(!hashes.contains(&reader) && hashes.contains("sha256"), "only the hash is kept");

    let keys = format!("server.auth.keys={}", file.display());
    let process = Process::start("quintet-tokenization", &["--set", &keys, "--set", "server.log=debug"]);
    let channel = process.channel().await;
    let with = |key: &str| {
        let value: tonic::metadata::MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
        move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", value.clone());
            Ok(request)
        }
    };
    let inputs = vec![EncodeInput { text: "And".into(), ..EncodeInput::default() }];
    let request = CountTokensRequest { model: "gpt-english".into(), inputs, ..CountTokensRequest::default() };
    let unknown = TokenizationServiceClient::new(channel.clone()).count_tokens(request.clone()).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.get_error_details().error_info().unwrap().reason.as_str()), (Code::Unauthenticated, "API_KEY_MISSING"));
    let mut client = TokenizationServiceClient::with_interceptor(channel.clone(), with(&reader));
    client.count_tokens(request.clone()).await.unwrap();
    assert_eq!(client.list_tokenizers(quintet_proto::tokenization::v1::ListTokenizersRequest {}).await.unwrap_err().code(), Code::PermissionDenied);
    let mut stranger = TokenizationServiceClient::with_interceptor(channel.clone(), with("qk_0000"));
    assert_eq!(stranger.count_tokens(request).await.unwrap_err().code(), Code::Unauthenticated);

    // A call that says that it is something else than gRPC does not get past the keys.
    for kind in ["application/json", "application/octet-stream"] {
        let path = "/quintet.tokenization.v1.TokenizationService/ListTokenizers";
        let answer = process
            .send(&format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 5\r\nconnection: close\r\n\r\n\0\0\0\0\0"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    }

    // Admin rpcs need their scope; who has it gets as far as the repository's own rule.
    let unload = RepositoryModelUnloadRequest { model_name: "gpt-english".into(), ..RepositoryModelUnloadRequest::default() };
    let mut inference = GrpcInferenceServiceClient::with_interceptor(channel.clone(), with(&reader));
    assert_eq!(inference.repository_model_unload(unload.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut inference = GrpcInferenceServiceClient::with_interceptor(channel, with(&operator));
    assert_eq!(inference.repository_model_unload(unload).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(process.metrics().await.starts_with("HTTP/1.1 401"));
    let top = Command::new(program("quintet"))
        .args(["top", "--once", "--interval", "0.1", "--address", &process.address, "--api-key", &operator])
        .output()
        .unwrap();
    assert!(top.status.success() && String::from_utf8_lossy(&top.stdout).contains("TokenizationService"), "{top:?}");

    let log = process.end().await;
    assert!(log.contains("reader") && !log.contains(&reader) && !log.contains(&operator), "keys are never logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_rpcs_are_off_on_a_public_listener() {
    let process =
        Process::start("quintet-tokenization", &["--listen", "0.0.0.0:0", "--set", "models.control=explicit", "--set", "models.load=gpt-english"]);
    let port = process.address.rsplit(':').next().unwrap();
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let unload = RepositoryModelUnloadRequest { model_name: "gpt-english".into(), ..RepositoryModelUnloadRequest::default() };
    let refused = GrpcInferenceServiceClient::new(channel.clone()).repository_model_unload(unload).await.unwrap_err();
    assert_eq!((refused.code(), refused.get_error_details().error_info().unwrap().reason.as_str()), (Code::PermissionDenied, "ADMIN_OFF"));
    assert!(count(channel).await.unwrap() > 0);
}
