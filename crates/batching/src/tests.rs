use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

const LIMITS: Limits = Limits { max_batch_cost: 8, max_queue_cost: 1 << 16, max_delay: Duration::ZERO };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Doubles each request; ends with the cost of every batch.
async fn doubling(worker: Worker<u64, u64>) -> Vec<usize> {
    let mut costs = Vec::new();
    worker
        .run(|batch| {
            costs.push(batch.cost);
            async move {
                tokio::task::yield_now().await;
                batch.requests.iter().map(|request| request * 2).collect()
            }
        })
        .await;
    costs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn each_answer_belongs_to_its_request(costs in prop::collection::vec(1usize..12, 1..400)) {
        block_on(async {
            let (batcher, worker) = batcher(LIMITS);
            let mut requests = JoinSet::new();
            for (index, cost) in (0u64..).zip(costs.iter().copied()) {
                let batcher = batcher.clone();
                requests.spawn(async move { (index, batcher.submit(index, cost).await) });
            }
            drop(batcher);
            let (batches, answers) = tokio::join!(doubling(worker), requests.join_all());
            for (index, answer) in answers {
                assert_eq!(answer, Ok(index * 2));
            }
            let largest = costs.iter().copied().fold(LIMITS.max_batch_cost, usize::max);
            assert!(batches.iter().all(|cost| *cost <= largest), "{batches:?}");
            assert_eq!(batches.iter().sum::<usize>(), costs.iter().sum::<usize>());
        });
    }
}

#[test]
fn a_full_queue_refuses_at_once() {
    block_on(async {
        let (batcher, worker) = batcher(Limits { max_queue_cost: 3, ..LIMITS });
        let waiting = batcher.submit(1, 3);
        let refused = async {
            tokio::task::yield_now().await;
            assert_eq!(batcher.submit(2, 1).await, Err(Rejected::Full { waiting: 3, limit: 3 }));
        };
        // Nothing runs until the refusal has been seen.
        let run = async {
            refused.await;
            tokio::select! { () = worker.run(|batch| async move { batch.requests }) => (), () = std::future::pending() => () }
        };
        tokio::select! { answer = waiting => assert_eq!(answer, Ok(1)), () = run => panic!("the worker ended") }
    });
}

#[test]
fn a_batch_that_nobody_waits_for_is_dropped() {
    struct Flag<'a>(&'a AtomicBool);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = AtomicBool::new(false);
    block_on(async {
        let (batcher, worker) = batcher::<u64, u64>(LIMITS);
        let (started, running) = oneshot::channel();
        let mut started = Some(started);
        let run = worker.run(|_| {
            let flag = Flag(&dropped);
            if let Some(started) = started.take() {
                started.send(()).unwrap();
            }
            async move {
                let _flag = flag;
                std::future::pending().await
            }
        });
        let requester = async {
            tokio::select! { _ = batcher.submit(1, 1) => panic!("answered"), running = running => running.unwrap() }
            // The requester's future is gone now; with the batcher gone too, the worker ends.
            drop(batcher);
        };
        tokio::join!(run, requester);
    });
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn a_wrong_number_of_answers_reaches_nobody() {
    block_on(async {
        let (batcher, worker) = batcher::<u64, u64>(LIMITS);
        let submit = async { batcher.submit(1, 1).await };
        tokio::select! {
            answer = submit => assert_eq!(answer, Err(Rejected::Unanswered)),
            () = worker.run(|_| async { vec![1, 2] }) => panic!("the worker ended"),
        }
    });
}

#[test]
fn a_delay_gathers_what_comes_meanwhile() {
    block_on(async {
        tokio::time::pause();
        let (batcher, worker) = batcher(Limits { max_delay: Duration::from_millis(5), ..LIMITS });
        let late = async {
            tokio::time::advance(Duration::from_millis(2)).await;
            batcher.submit(2, 1).await
        };
        let both = async {
            let answers = tokio::join!(batcher.submit(1, 1), late);
            drop(batcher.clone());
            answers
        };
        tokio::select! {
            answers = both => assert_eq!(answers, (Ok(2), Ok(2))),
            () = worker.run(|batch| async move { vec![batch.requests.len() as u64; batch.requests.len()] }) => panic!("the worker ended"),
        }
    });
}
