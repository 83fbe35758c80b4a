//! What replicas with one database do together, and what becomes of evaluations when one of them, or the database, goes.

use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::harness::{command, metric};

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_tells_the_same_and_a_restart_loses_nothing() {
    let Some(postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;
    // Both come at once to a database that is empty.
    let keeps = ["evaluation.keep_ended=5"];
    let (mut one, other) = tokio::join!(stage.replica(&postgres, false, &keeps), stage.replica(&postgres, false, &keeps));
    let mut ids = Vec::new();
    for index in 0..6 {
        let (here, there) = if index % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let id = here.create(anomaly()).await.unwrap();
        let ended = there.until(&id, EvaluationState::Succeeded).await;
        assert_eq!((here.get(&id).await.unwrap(), there.get(&id).await.unwrap()), (ended.clone(), ended));
        ids.push(id);
    }
    // Of six that have ended, five are kept, whichever replica took or ran them.
    ids.remove(0);
    ids.reverse();
    let forgotten = async { while other.list(0, String::new()).await.0.len() > 5 {} };
    tokio::time::timeout(BOUND, forgotten).await.unwrap();
    let listed = async |replica: &Replica| {
        let (first, token) = replica.list(3, String::new()).await;
        let (second, end) = replica.list(3, token).await;
        assert!(end.is_empty());
        first.into_iter().chain(second).collect::<Vec<_>>()
    };
    let before = listed(&one).await;
    assert_eq!(before.iter().map(|evaluation| evaluation.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(listed(&other).await, before);
    one.process.kill();
    let again = stage.replica(&postgres, false, &keeps).await;
    assert_eq!(listed(&again).await, before);
    assert_eq!(again.get("none").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(postgres.ask("SELECT version FROM quintet_evaluation_schema"), "1");
    for replica in [again, other] {
        let logged = replica.process.end().await;
        assert!(!logged.contains("did not end") && !logged.contains("panicked"), "{logged}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_leaves_unfinished_is_finished_by_another() {
    let Some(postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;

    // It is killed while it runs one and another waits.
    let mut lost = stage.replica(&postgres, true, &[]).await;
    let (running, waiting) = (lost.create(text()).await.unwrap(), lost.create(anomaly()).await.unwrap());
    lost.until(&running, EvaluationState::Running).await;
    let heir = stage.replica(&postgres, false, &["evaluation.max_running=2"]).await;
    let mut watched = heir.watch(&running).await;
    heir.until(&waiting, EvaluationState::Succeeded).await;
    lost.process.kill();
    let ended = watched.until(EvaluationState::Succeeded).await;
    assert!(!ended.metrics.is_empty());
    let attempts = |id: &str| postgres.ask(&format!("SELECT attempt, lost FROM quintet_evaluations WHERE id = '{id}'"));
    assert_eq!((attempts(&running), attempts(&waiting)), ("2|1".to_owned(), "1|0".to_owned()));
    heir.process.end().await;

    // It ends in order: what it runs is given back at once, and nobody is blamed for it.
    let leaving = stage.replica(&postgres, true, &[]).await;
    let running = leaving.create(text()).await.unwrap();
    leaving.until(&running, EvaluationState::Running).await;
    let mut told = leaving.watch(&running).await;
    leaving.process.terminate();
    let end = loop {
        match told.states.message().await {
            Ok(Some(state)) => assert!(matches!(state.evaluation.unwrap().state(), EvaluationState::Running)),
            Ok(None) => panic!("its watcher was told of an end"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(leaving.process.wait().await.success());
    assert_eq!(attempts(&running), "1|0");
    let mut heir = stage.replica(&postgres, false, &[]).await;
    heir.until(&running, EvaluationState::Succeeded).await;
    assert_eq!(attempts(&running), "2|0");
    heir.process.kill();

    // What processes die of is not tried for ever.
    let mut third = stage.replica(&postgres, true, &[]).await;
    let deadly = third.create(text()).await.unwrap();
    third.until(&deadly, EvaluationState::Running).await;
    third.process.kill();
    postgres.ask(&format!("UPDATE quintet_evaluations SET lost = 2 WHERE id = '{deadly}'"));
    let heir = stage.replica(&postgres, false, &[]).await;
    let failed = heir.until(&deadly, EvaluationState::Failed).await;
    assert!(failed.error.contains("3 processes were lost"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_an_evaluation_does_not_write_over_who_has_it() {
    let Some(postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;

    // It is held up for longer than its lease.
    let held_up = stage.replica(&postgres, true, &[]).await;
    let id = held_up.create(text()).await.unwrap();
    held_up.until(&id, EvaluationState::Running).await;
    held_up.process.signal("STOP");
    let heir = stage.replica(&postgres, false, &[]).await;
    let ended = heir.until(&id, EvaluationState::Succeeded).await;
    held_up.process.signal("CONT");
    held_up.has_logged("another process has it", 1).await;
    assert_eq!(held_up.get(&id).await.unwrap(), ended);
    // It has its turn free again.
    heir.process.end().await;
    let next = held_up.create(anomaly()).await.unwrap();
    held_up.until(&next, EvaluationState::Succeeded).await;

    // Another has taken it when its end is to be noted.
    let id = held_up.create(image()).await.unwrap();
    held_up.until(&id, EvaluationState::Running).await;
    let mut thief = postgres.session();
    assert_eq!(thief.ask("BEGIN;"), "BEGIN");
    let taken = "owner = 'another', attempt = attempt + 1, lease = clock_timestamp() + interval '1 hour', record = record";
    let stolen = format!("UPDATE quintet_evaluations SET {taken} WHERE id = '{id}' AND state = 'running' RETURNING md5(record);");
    let record = thief.ask(&stolen);
    assert_eq!(record.len(), 32, "it had ended already: {record}");
    // Until all is drawn nothing of it can be noted.
    let drawn = async { while metric(&stage.behind.metrics().await, "quintet_image_images_total", &[]) < 1000.0 {} };
    tokio::time::timeout(BOUND, drawn).await.unwrap();
    assert_eq!(thief.ask("COMMIT;"), "UPDATE 1");
    drop(thief);
    held_up.has_logged("another process has it", 2).await;
    let now = format!("SELECT owner, state, md5(record) FROM quintet_evaluations WHERE id = '{id}'");
    assert_eq!(postgres.ask(&now), format!("another|running|{record}"));
    let logged = held_up.process.end().await;
    assert_eq!(logged.matches("another process has it").count(), 2, "{logged}");
    assert_eq!(postgres.ask(&now), format!("another|running|{record}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_cancels_and_all_count_those_that_wait() {
    let Some(postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;
    let few = ["evaluation.max_waiting=1"];
    let (one, other) = tokio::join!(stage.replica(&postgres, true, &few), stage.replica(&postgres, true, &few));
    let (first, second) = (one.create(text()).await.unwrap(), one.create(text()).await.unwrap());
    for id in [&first, &second] {
        other.until(id, EvaluationState::Running).await;
    }
    let third = other.create(text()).await.unwrap();
    for replica in [&one, &other] {
        let refused = replica.create(text()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    // One that waits, and those that run, wherever they do.
    for id in [&third, &first, &second] {
        let ended = one.cancel(id).await.unwrap();
        assert_eq!((ended.state(), ended.ended_at.is_some()), (EvaluationState::Cancelled, true));
        assert_eq!((other.get(id).await.unwrap(), other.cancel(id).await.unwrap()), (ended.clone(), ended));
    }
    assert_eq!(one.cancel("none").await.unwrap_err().code(), Code::NotFound);
    // Their turns are free.
    let next = other.create(anomaly()).await.unwrap();
    one.until(&next, EvaluationState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_costs_no_evaluation() {
    let Some(mut postgres) = Postgres::start() else { return };
    let stage = Stage::set().await;
    let one = stage.replica(&postgres, false, &[]).await;
    let id = one.create(image()).await.unwrap();
    let other = stage.replica(&postgres, false, &[]).await;
    let mut watched = other.watch(&id).await;
    watched.until(EvaluationState::Running).await;
    postgres.stop();
    for replica in [&one, &other] {
        replica.is(ServingStatus::NotServing).await;
        let refused = replica.create(anomaly()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
        assert!(!refused.message().contains("localhost"), "where it is is nobody's business: {refused}");
        assert_eq!(replica.get(&id).await.unwrap_err().code(), Code::Unavailable);
    }
    // It was away for longer than leases last.
    postgres.edit("UPDATE quintet_evaluations SET lease = clock_timestamp() - interval '1 hour'");
    postgres.resume();
    one.is(ServingStatus::Serving).await;
    other.is(ServingStatus::Serving).await;
    // Nothing that was refused is there, and who ran one runs it still.
    assert_eq!(one.list(0, String::new()).await.0.len(), 1);
    let after = other.create(anomaly()).await.unwrap();
    one.until(&after, EvaluationState::Succeeded).await;
    watched.until(EvaluationState::Succeeded).await;
    assert_eq!(postgres.ask(&format!("SELECT attempt FROM quintet_evaluations WHERE id = '{id}'")), "1");
    assert!(one.process.log().contains("cannot be reached"));
    one.process.end().await;
    other.process.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_database_keeps_its_contract() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.url("sslmode=disable");
    let all = Replica::of(Process::start_with("quintet", &["up"], &[("QUINTET_EVALUATION__DATABASE__URL", &url)]));
    all.is(ServingStatus::Serving).await;
    let kit = command("quintet", &["conformance", "--target", &all.process.address, "--service", "evaluation"]);
    let output = tokio::process::Command::from(kit).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_ne!(postgres.ask("SELECT count(*) FROM quintet_evaluations"), "0");
}
