use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, task::JoinSet};

use super::*;

type Pieces = mpsc::SyncSender<Work<Question, Answer>>;
type Answer = Result<(u64, Vec<u64>), String>;

/// What a request asks: its number, the outputs it wants, and whether the model refuses it.
#[derive(Clone, Debug)]
struct Question {
    number: u64,
    wants: Vec<u64>,
    is_bad: bool,
}

fn question(number: u64) -> Question {
    Question { number, wants: vec![number + 1], is_bad: false }
}

/// A model in `threads` threads; refuses a whole batch for one bad row, as a graph does.
fn model(limits: Limits, seen: impl Fn(&Batch<Question>) + Send + Sync + 'static) -> Batcher<Question, Answer> {
    let (pieces, queue): (Pieces, _) = mpsc::sync_channel(64);
    let (queue, seen) = (Arc::new(Mutex::new(queue)), Arc::new(seen));
    for _ in 0..limits.instances {
        let (queue, seen) = (Arc::clone(&queue), Arc::clone(&seen));
        std::thread::spawn(move || {
            loop {
                let piece = queue.lock().unwrap().recv();
                let Ok(piece) = piece else { return };
                piece.run(
                    || {},
                    |batch| {
                        seen(&batch);
                        let run = |requests: &[Question]| match requests.iter().find(|question| question.is_bad) {
                            Some(bad) => Err(format!("{} is bad", bad.number)),
                            None => Ok(requests.iter().map(|question| (question.number, question.wants.clone())).collect()),
                        };
                        apart(&batch.requests, run, |_| false)
                    },
                );
            }
        });
    }
    Batcher::new("test", limits, move |work| drop(pieces.send(work)))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Thousands of requests at once, of random size, width, key, priority and outputs, some bad, some given up: each
    /// answer is the request's own, a bad row fails alone, and no batch breaks a limit.
    #[test]
    fn each_answer_belongs_to_its_request(seed: u64, instances in 1usize..4, delay in 0u64..2, padding in 0u32..2) {
        let limits = Limits {
            max_delay: Duration::from_millis(delay),
            preferred_rows: vec![4, 8],
            instances,
            max_padding: f64::from(padding) * 0.3,
            ..Limits::rows(64, 1 << 24)
        };
        block_on(async {
            let batcher = model(limits, move |batch| {
                assert!(batch.rows <= 64 || batch.requests.len() == 1, "{}", batch.rows);
                assert_eq!(batch.requests.iter().map(|question| question.number % 3).max(), batch.requests.iter().map(|question| question.number % 3).min());
            });
            let mut random = StdRng::seed_from_u64(seed);
            let mut requests = JoinSet::new();
            for number in 0..3000u64 {
                let asked = Question { number, wants: (0..random.random_range(0..4)).map(|_| random.next_u64()).collect(), is_bad: random.random_bool(0.02) };
                let ask = Ask {
                    rows: random.random_range(1..5),
                    width: random.random_range(1..9),
                    key: number % 3,
                    priority: random.random_range(0..3),
                    deadline: None,
                };
                let (batcher, gives_up) = (batcher.clone(), random.random_bool(0.05));
                requests.spawn(async move {
                    if gives_up {
                        tokio::select! { biased; _ = batcher.submit(asked, ask) => (), () = tokio::task::yield_now() => () }
                        return;
                    }
                    let answer = batcher.submit(asked.clone(), ask).await.unwrap();
                    let expected = if asked.is_bad { Err(format!("{number} is bad")) } else { Ok((number, asked.wants)) };
                    assert_eq!(answer, expected);
                });
            }
            while let Some(outcome) = requests.join_next().await {
                outcome.unwrap();
            }
        });
    }
}

/// A model that does nothing until it is told to: its pieces of work, one by one.
fn by_hand(limits: Limits) -> (Batcher<Question, Answer>, mpsc::Receiver<Work<Question, Answer>>) {
    let (pieces, queue) = mpsc::sync_channel(64);
    (Batcher::new("by-hand", limits, move |work| drop(pieces.send(work))), queue)
}

fn echo(batch: Batch<Question>) -> Vec<Answer> {
    batch.requests.into_iter().map(|question| Ok((question.number, question.wants))).collect()
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_withdrawn_request_makes_room() {
    let (batcher, _pieces) = by_hand(Limits::rows(8, 3));
    let mut first = Box::pin(batcher.submit(question(1), Ask::rows(3)));
    assert!(futures_poll(&mut first).await.is_none());
    assert_eq!(batcher.submit(question(2), Ask::rows(1)).await, Err(Rejected::Full { waiting: 3, limit: 3 }));
    drop(first);
    let mut second = Box::pin(batcher.submit(question(2), Ask::rows(1)));
    assert!(futures_poll(&mut second).await.is_none(), "there is room again");
}

/// Polls once.
async fn futures_poll<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn the_batch_is_picked_when_it_starts_by_priority_and_without_the_expired() {
    let (batcher, pieces) = by_hand(Limits::rows(2, 100));
    let past = Some(Instant::now());
    let asks = [Ask::rows(1).priority(2), Ask::rows(1), Ask::rows(1).priority(0), Ask::rows(1).until(past)];
    let mut waiting: Vec<_> = (0..).zip(asks).map(|(number, ask)| Box::pin(batcher.submit(question(number), ask))).collect();
    for future in &mut waiting {
        assert!(futures_poll(future).await.is_none());
    }
    let seen = Mutex::new(Vec::new());
    let run = |batch: Batch<Question>| {
        seen.lock().unwrap().push(batch.requests.iter().map(|question| question.number).collect::<Vec<_>>());
        echo(batch)
    };
    pieces.try_recv().unwrap().run(|| {}, run);
    pieces.try_recv().unwrap().run(|| {}, run);
    assert_eq!(*seen.lock().unwrap(), [vec![2, 1], vec![0]]);
    assert_eq!(waiting.pop().unwrap().await, Err(Rejected::Expired));
    for (number, future) in (0..).zip(waiting) {
        assert_eq!(future.await.unwrap().unwrap().0, number);
    }
}

#[tokio::test]
async fn padding_is_bounded_and_instances_share() {
    let limits = Limits { max_padding: 0.25, instances: 2, ..Limits::rows(1000, 10_000) };
    let (batcher, pieces) = by_hand(limits);
    let wide = |width| Ask { width, ..Ask::rows(1) };
    let mut waiting: Vec<_> =
        (0..).zip([100, 95, 10, 98, 9]).map(|(number, width)| Box::pin(batcher.submit(question(number), wide(width)))).collect();
    for future in &mut waiting {
        assert!(futures_poll(future).await.is_none());
    }
    let sizes = Mutex::new(Vec::new());
    while let Ok(piece) = pieces.try_recv() {
        piece.run(
            || {},
            |batch| {
                sizes.lock().unwrap().push(batch.requests.iter().map(|question| question.number).collect::<Vec<_>>());
                echo(batch)
            },
        );
    }
    // The first instance takes its half of the cost; 10 and 9 would be nine tenths padding beside the others.
    assert_eq!(*sizes.lock().unwrap(), [vec![0, 1], vec![2, 4], vec![3]]);
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_is_cancelled_and_one_with_a_listener_is_not() {
    let (batcher, pieces) = by_hand(Limits::rows(8, 100));
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut both: Vec<_> = (0..2).map(|number| Box::pin(batcher.submit(question(number), Ask::rows(1)))).collect();
    for future in &mut both {
        assert!(futures_poll(future).await.is_none());
    }
    let flag = Arc::clone(&cancelled);
    pieces.try_recv().unwrap().run(
        move || flag.store(true, Ordering::SeqCst),
        |batch| {
            drop(both.pop());
            assert!(!cancelled.load(Ordering::SeqCst), "one still waits");
            drop(both.pop());
            assert!(cancelled.load(Ordering::SeqCst));
            echo(batch)
        },
    );
}

#[tokio::test]
async fn a_wrong_number_of_answers_reaches_nobody_and_a_lost_model_fails_its_queue() {
    let (batcher, pieces) = by_hand(Limits::rows(8, 100));
    let mut asked = Box::pin(batcher.submit(question(1), Ask::rows(1)));
    assert!(futures_poll(&mut asked).await.is_none());
    pieces.try_recv().unwrap().run(|| {}, |_| Vec::new());
    assert_eq!(asked.await, Err(Rejected::Unanswered));
    let mut asked = Box::pin(batcher.submit(question(1), Ask::rows(1)));
    assert!(futures_poll(&mut asked).await.is_none());
    drop(pieces);
    let next = batcher.submit(question(2), Ask::rows(1)).await;
    assert_eq!(next, Err(Rejected::Unanswered));
    assert_eq!(asked.await, Err(Rejected::Unanswered));
}

#[tokio::test(start_paused = true)]
async fn a_delay_gathers_what_comes_meanwhile_and_a_full_batch_waits_no_longer() {
    let limits = Limits { max_delay: Duration::from_millis(5), preferred_rows: vec![3], ..Limits::rows(8, 100) };
    let (batcher, pieces) = by_hand(limits);
    let start = tokio::time::Instant::now();
    let sizes = Arc::new(AtomicUsize::new(0));
    let run = |expected: usize| {
        let sizes = Arc::clone(&sizes);
        pieces.try_recv().unwrap().run(
            || {},
            move |batch| {
                assert_eq!(batch.requests.len(), expected);
                sizes.fetch_add(expected, Ordering::SeqCst);
                echo(batch)
            },
        );
    };
    let done = Notify::new();
    let two = async {
        let late = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            batcher.submit(question(2), Ask::rows(1)).await
        };
        let answers = tokio::join!(batcher.submit(question(1), Ask::rows(1)), late);
        done.notify_one();
        answers
    };
    let driver = async {
        tokio::time::sleep(Duration::from_millis(6)).await;
        run(2);
        done.notified().await;
    };
    let (answers, ()) = tokio::join!(two, driver);
    assert!(answers.0.is_ok() && answers.1.is_ok());
    assert!(start.elapsed() < Duration::from_millis(8));

    let three = batcher.submit_all((0..3).map(question).collect(), Ask::rows(1));
    let driver = async {
        tokio::task::yield_now().await;
        run(3);
    };
    let before = tokio::time::Instant::now();
    let (answers, ()) = tokio::join!(three, driver);
    assert_eq!(answers.unwrap().len(), 3);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(sizes.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn one_whose_time_runs_out_leaves_the_others_their_delay() {
    let limits = Limits { max_delay: Duration::from_hours(1), ..Limits::rows(8, 100) };
    let (batcher, pieces) = by_hand(limits);
    let patient = batcher.submit(question(1), Ask::rows(1));
    tokio::pin!(patient);
    // Polled once, so that it waits.
    tokio::select! { biased; _ = &mut patient => panic!("it has an hour"), () = std::future::ready(()) => {} }
    let soon = Instant::now() + Duration::from_millis(1);
    let hasty = batcher.submit(question(2), Ask { deadline: Some(soon), ..Ask::rows(1) });
    assert_eq!(hasty.await, Err(Rejected::Expired));
    assert!(pieces.try_recv().is_err(), "the other has been handed out before its delay was over");
}
