//! How a replica comes to its database: TLS, passwords, and what nobody gets to see of them.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::harness::run;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Settings of a server that speaks TLS, with a certificate for that name.
fn encrypted(folder: &Path, authority: &Authority, name: &str) -> Vec<String> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
    fs::write(&certificate_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let value = |path: &Path| format!("'{}'", path.display());
    vec!["ssl = on".to_owned(), format!("ssl_cert_file = {}", value(&certificate_file)), format!("ssl_key_file = {}", value(&key_file))]
}

/// A process with this database and these settings, and the database's password in a file.
fn replica(url: &str, secrets: &Path, settings: &[String]) -> Replica {
    let file = secrets.join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let nobody = ["text", "image", "anomaly"].map(|service| format!("evaluation.{service}_endpoint=http://127.0.0.1:1"));
    let database = [format!("evaluation.database.url={url}"), format!("evaluation.database.password_file={}", file.display())];
    let all = nobody.iter().chain(&database).chain(settings);
    let arguments: Vec<&str> = all.flat_map(|setting| ["--set", setting.as_str()]).collect();
    Replica::of(tokio::task::block_in_place(|| Process::start("quintet-evaluation", &arguments)))
}

/// Whether the connections that there are to a database are encrypted.
const IS_ENCRYPTED: &str = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'quintet-evaluation'";

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_as_strict_as_the_url_says() {
    let (signer, stranger, secrets) = (authority(), authority(), tempfile::tempdir().unwrap());
    let trusting = |authority: &Authority, name: &str| {
        let file = secrets.path().join(name);
        fs::write(&file, authority.pem()).unwrap();
        vec![format!("evaluation.database.ca_certificate={}", file.display())]
    };
    let (right, wrong) = (trusting(&signer, "right.pem"), trusting(&stranger, "wrong.pem"));
    let Some(known) = Postgres::start_with(|folder| encrypted(folder, &signer, "localhost")) else { return };
    for (options, settings) in [("sslmode=verify-full", &right), ("", &right), ("sslmode=require", &Vec::new()), ("sslmode=require", &wrong)] {
        let replica = replica(&known.bare_url(options), secrets.path(), settings);
        replica.is(ServingStatus::Serving).await;
        assert_eq!(known.ask(IS_ENCRYPTED), "t", "{options}");
        replica.process.end().await;
    }
    // Signed by somebody else, or of another's name: nothing is said over it.
    let other = Postgres::start_with(|folder| encrypted(folder, &signer, "elsewhere.example")).unwrap();
    for (postgres, settings) in [(&known, &wrong), (&other, &right)] {
        let replica = replica(&postgres.bare_url("sslmode=verify-full"), secrets.path(), settings);
        let refused = replica.create(anomaly()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        let logged = replica.process.end().await;
        assert!(logged.contains("certificate"), "{logged}");
    }
    let plain = Postgres::start().unwrap();
    let refused = replica(&plain.bare_url("sslmode=require"), secrets.path(), &[]).create(anomaly()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_seen_nowhere() {
    let Some(mut postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;
    let one = stage.replica(&postgres, false, &["server.log=debug"]).await;
    let id = one.create(anomaly()).await.unwrap();
    one.until(&id, EvaluationState::Succeeded).await;
    postgres.stop();
    let refused = one.create(anomaly()).await.unwrap_err();
    assert!(!format!("{refused:?}").contains(PASSWORD));
    let (metrics, logged) = (one.process.metrics().await, one.process.end().await);
    assert!(!metrics.contains(PASSWORD) && !logged.contains(PASSWORD), "{logged}");

    // A wrong one is no fault of the program's: the right one may come.
    postgres.resume();
    let secrets = tempfile::tempdir().unwrap();
    let mistaken = replica(&postgres.bare_url("sslmode=disable").replace("quintet@", "nobody@"), secrets.path(), &[]);
    assert_eq!(mistaken.create(anomaly()).await.unwrap_err().code(), tonic::Code::Unavailable);
    let logged = mistaken.process.end().await;
    assert!(logged.contains("password authentication failed") && !logged.contains(PASSWORD), "{logged}");
}

#[test]
fn a_database_that_cannot_be_meant_is_refused_at_the_start() {
    let nobody = ["text", "image", "anomaly"].map(|service| format!("evaluation.{service}_endpoint=http://127.0.0.1:1"));
    let refused = |settings: &[String]| {
        let all = nobody.iter().chain(settings);
        let arguments: Vec<&str> = all.flat_map(|setting| ["--set", setting.as_str()]).collect();
        let (code, printed, said) = run("quintet-evaluation", &arguments);
        assert!(!printed.contains(PASSWORD) && !said.contains(PASSWORD), "{said}");
        assert_eq!(code, 64, "{said}");
        said
    };
    let url = |rest: &str| format!("evaluation.database.url=postgres://q:{PASSWORD}@db{rest}");
    let plain = url("/jobs?sslmode=disable");
    for (settings, words) in [
        (vec![url("/jobs")], "evaluation.database.ca_certificate"),
        (vec![url("/jobs?sslmode=prefer")], "sslmode=prefer"),
        (vec![url("")], "postgres://USER"),
        (vec![plain.clone(), "evaluation.journal=jobs".to_owned()], "evaluation.journal"),
        (vec![plain.clone(), "evaluation.database.password_file=secret".to_owned()], "evaluation.database.password_file"),
        (vec![plain.clone(), "evaluation.database.lease_seconds=2".to_owned()], "must be 3 to 3600"),
    ] {
        let said = refused(&settings);
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, printed, _) = run("quintet-evaluation", &["--print-config", "--set", &plain]);
    assert!(code == 0 && printed.contains("postgres://q:…@db/jobs") && !printed.contains(PASSWORD), "{printed}");
}
