use super::*;
use crate::clock::ManualClock;
use crate::domain::Timestamp;
use crate::mcp::call::connection::Sent;
use crate::process::{CommandSpec, Spawner};

/// A child that runs `script` and is sent one request by each call of [`Bench::ask`].
struct Bench {
    pipe: Pipe,
    signals: Arc<Signals>,
    clock: Arc<ManualClock>,
    // Children end with the thread that started them.
    _spawner: Spawner,
}

impl Bench {
    async fn start(script: &str) -> Self {
        let (spawner, tasks, signals) = (Spawner::start().unwrap(), Tasks::new(), Arc::new(Signals::default()));
        let args = vec!["-c".into(), script.into()];
        let spec = CommandSpec { program: "/bin/sh".into(), args, ..CommandSpec::default() };
        let child = spawner.spawn(&spec, &tasks).await.unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let shared: SharedClock = clock.clone();
        let pipe = Pipe::to_child(child, signals.clone(), &shared, &tasks).unwrap();
        Self { pipe, signals, clock, _spawner: spawner }
    }

    async fn ask(&self) -> CallError {
        let exchange = Exchange {
            id: 1,
            method: "tools/call",
            body: "a request".into(),
            agreed: None,
            progress: None,
            name: None,
            headers: &[],
            cancellable: true,
            sent: Sent::default(),
        };
        self.pipe.exchange(exchange).await.unwrap_err()
    }
}

#[tokio::test]
async fn what_a_server_says_between_the_end_of_its_output_and_its_own_reaches_the_caller() {
    let bench = Bench::start("read -r request; exec >&-; read -r more; echo 'the disk is full' >&2; exit 3").await;
    let asked = bench.ask();
    let (error, ()) = tokio::join!(asked, bench.pipe.tell("more".into()));
    let CallError::Closed(reason) = error else { panic!("{error}") };
    assert!(reason.contains("exit status: 3") && reason.contains("it last said: the disk is full"), "{reason}");
    assert_eq!(bench.signals.reason(), Some(reason.as_str()));
}

#[tokio::test]
async fn a_server_that_lives_on_without_its_output_keeps_nobody_waiting_for_its_last_words() {
    let bench = Bench::start("read -r request; exec >&-; read -r never").await;
    let waiting = async {
        loop {
            bench.clock.advance(LAST_WORDS);
            tokio::task::yield_now().await;
        }
    };
    let error = tokio::select! {
        error = bench.ask() => error,
        () = waiting => unreachable!(),
    };
    assert_eq!(error.to_string(), "the server closed its output");
    bench.pipe.close().await;
}

#[tokio::test]
async fn a_server_that_is_ended_on_purpose_fails_its_calls_at_once() {
    let bench = Bench::start("cat >/dev/null; exec >&-; echo 'cut off' >&2").await;
    let (error, ()) = tokio::join!(bench.ask(), bench.pipe.close());
    assert_eq!(error.to_string(), "the connection was closed");
}
