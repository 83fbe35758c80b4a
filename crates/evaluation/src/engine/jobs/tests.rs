use tokio::sync::Notify;

use super::*;
use crate::engine::{Subject, TextPlan};

fn plan(seed: u64) -> Plan {
    Plan { subject: Subject::Text(TextPlan { model: String::new(), dataset: "d".into(), documents: 1 }), seed, resamples: 100 }
}

fn metric(seed: u64) -> Metric {
    Metric { name: "m", value: 1.0, interval: None, signature: String::new(), sample_size: 1, seed, higher_is_better: true, measured_with: BTreeMap::new() }
}

fn limits(running: usize, waiting: usize, finished: usize) -> Limits {
    Limits { running, waiting, finished }
}

/// Evaluations that each wait for one permission; seed 13 panics and seed 14 fails.
fn gated(limits: Limits) -> (Jobs, Arc<Notify>, TaskTracker) {
    let (gate, tasks) = (Arc::new(Notify::new()), TaskTracker::new());
    let opens = Arc::clone(&gate);
    let run: Runner = Arc::new(move |progress, plan| {
        let gate = Arc::clone(&opens);
        Box::pin(async move {
            progress.stage("measuring", 2)?;
            gate.notified().await;
            progress.done(1)?;
            progress.found("the-default", "d")?;
            assert_ne!(plan.seed, 13, "unlucky");
            if plan.seed == 14 { Err(Error::Mismatch("too far".into())) } else { Ok(vec![metric(plan.seed)]) }
        })
    });
    (Jobs::new(limits, tasks.clone(), run), gate, tasks)
}

async fn ended(job: &Job) -> Snapshot {
    job.watch().wait_for(|snapshot| snapshot.state.is_final()).await.unwrap().clone()
}

async fn measuring(job: &Job) {
    drop(job.watch().wait_for(|snapshot| snapshot.stage == "measuring").await.unwrap());
}

#[tokio::test]
async fn an_evaluation_runs_to_its_end_and_says_how_far_it_is() {
    let (jobs, gate, _tasks) = gated(limits(1, 1, 9));
    let job = jobs.create(plan(1)).unwrap();
    assert_eq!(job.snapshot().state, State::Queued);
    measuring(&job).await;
    let now = job.snapshot();
    assert_eq!((now.state, now.done, now.total, now.ended), (State::Running, 0, 2, None));
    gate.notify_one();
    let last = ended(&job).await;
    assert_eq!((last.state, last.metrics.len(), last.done), (State::Succeeded, 1, 2));
    assert!(last.ended.unwrap() >= last.created);
    let Subject::Text(text) = last.plan.subject else { panic!() };
    assert_eq!(text.model, "the-default");
    assert!(Arc::ptr_eq(&jobs.get(&last.id).unwrap(), &job));
    assert!(matches!(jobs.get("other"), Err(Error::UnknownEvaluation(_))));
}

#[tokio::test]
async fn failures_and_panics_end_an_evaluation_and_the_next_still_runs() {
    let (jobs, gate, _tasks) = gated(limits(1, 2, 9));
    let created: Vec<_> = [13, 14, 15].map(|seed| jobs.create(plan(seed)).unwrap()).into();
    for (job, state) in created.iter().zip([State::Failed, State::Failed, State::Succeeded]) {
        measuring(job).await;
        gate.notify_one();
        assert_eq!(ended(job).await.state, state);
    }
    assert_eq!(created[1].snapshot().error, "too far");
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_cancelled_one_makes_room_at_once() {
    let (jobs, gate, _tasks) = gated(limits(1, 1, 9));
    let (running, waiting) = (jobs.create(plan(1)).unwrap(), jobs.create(plan(2)).unwrap());
    measuring(&running).await;
    assert!(matches!(jobs.create(plan(3)), Err(Error::Full { waiting: 1, limit: 1 })));
    assert_eq!(jobs.cancel(&waiting.snapshot().id).unwrap().snapshot().state, State::Cancelled);
    let third = jobs.create(plan(3)).unwrap();
    let cancelled = jobs.cancel(&running.snapshot().id).unwrap().snapshot();
    assert_eq!((cancelled.state, cancelled.error.as_str(), cancelled.ended.is_some()), (State::Cancelled, "", true));
    measuring(&third).await;
    gate.notify_one();
    assert_eq!(ended(&third).await.state, State::Succeeded);
    assert_eq!(jobs.cancel(&third.snapshot().id).unwrap().snapshot().state, State::Succeeded, "what has ended stays as it is");
    assert!(waiting.snapshot().metrics.is_empty());
}

#[tokio::test]
async fn a_queue_of_none_still_runs_one() {
    let (jobs, gate, _tasks) = gated(limits(1, 0, 9));
    let job = jobs.create(plan(1)).unwrap();
    assert!(matches!(jobs.create(plan(2)), Err(Error::Full { .. })));
    gate.notify_one();
    ended(&job).await;
}

#[tokio::test]
async fn closing_cancels_all_and_every_task_ends() {
    let (jobs, _gate, tasks) = gated(limits(2, 2, 9));
    let created: Vec<_> = (0..4).map(|seed| jobs.create(plan(seed)).unwrap()).collect();
    measuring(&created[0]).await;
    jobs.close();
    assert!(created.iter().all(|job| job.snapshot().state == State::Cancelled));
    assert!(matches!(jobs.create(plan(9)), Err(Error::ShuttingDown)));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn dropping_the_jobs_ends_their_tasks() {
    let (jobs, _gate, tasks) = gated(limits(1, 2, 9));
    let job = jobs.create(plan(1)).unwrap();
    measuring(&job).await;
    drop(jobs);
    tasks.close();
    tasks.wait().await;
    assert_eq!(job.snapshot().state, State::Cancelled);
}

#[tokio::test]
async fn the_list_is_newest_first_in_pages_and_the_oldest_ended_are_forgotten() {
    let (jobs, gate, _tasks) = gated(limits(1, 9, 2));
    let created: Vec<_> = (0..5).map(|seed| jobs.create(plan(seed)).unwrap()).collect();
    let seeds = |page: &[Arc<Job>]| page.iter().map(|job| job.snapshot().plan.seed).collect::<Vec<_>>();
    let (page, next) = jobs.list(None, 2);
    assert_eq!((seeds(&page), next), (vec![4, 3], Some(3)));
    let (page, next) = jobs.list(next, 2);
    assert_eq!((seeds(&page), next), (vec![2, 1], Some(1)));
    let (page, next) = jobs.list(next, 2);
    assert_eq!((seeds(&page), next), (vec![0], None));
    for job in &created {
        measuring(job).await;
        gate.notify_one();
        ended(job).await;
    }
    assert_eq!(seeds(&jobs.list(None, 100).0), [4, 3]);
    assert!(jobs.get(&created[0].snapshot().id).is_err());
}
