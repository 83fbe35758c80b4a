//! The five services, each in its process, and the network between them.

use std::{path::Path, time::Duration};

use tonic::transport::{Channel, Endpoint};

use super::{BOUNDS, link::Link};
use crate::harness::Process;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Tokenization,
    Text,
    Image,
    Anomaly,
    Evaluation,
}

impl Service {
    pub(super) const ALL: [Self; 5] = [Self::Tokenization, Self::Text, Self::Image, Self::Anomaly, Self::Evaluation];

    fn program(self) -> &'static str {
        match self {
            Self::Tokenization => "quintet-tokenization",
            Self::Text => "quintet-text",
            Self::Image => "quintet-image",
            Self::Anomaly => "quintet-anomaly",
            Self::Evaluation => "quintet-evaluation",
        }
    }
}

/// What happens to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its process is killed, and started again.
    Killed,
    /// Its process ends as it is asked to, and is started again.
    Restarted,
    /// Its process does nothing for a while.
    Paused,
    /// Nobody else reaches it: at first without a sign, then with closed connections.
    CutOff,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Killed, Self::Restarted, Self::Paused, Self::CutOff];
}

/// A service's process, and the way to it that all others take.
struct Site {
    service: Service,
    process: Process,
    address: String,
    link: Link,
    /// Flags that it is started with.
    arguments: Vec<String>,
}

impl Site {
    async fn start(service: Service, arguments: Vec<String>) -> Self {
        let process = Self::run(service, &arguments, "127.0.0.1:0");
        let address = process.address.clone();
        let link = Link::to(address.parse().unwrap()).await;
        Self { service, process, address, link, arguments }
    }

    fn run(service: Service, arguments: &[String], listen: &str) -> Process {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--listen", listen]).collect();
        tokio::task::block_in_place(|| Process::start(service.program(), &arguments))
    }
}

/// All services.
pub(super) struct Sites(Vec<Site>);

impl Sites {
    /// Starts them, evaluations being noted in `journal`.
    pub(super) async fn start(journal: &Path) -> Self {
        let set = |key: &str, value: &str| ["--set".to_owned(), format!("{key}={value}")];
        let url = |site: &Site| format!("http://{}", site.link.address);
        let peers: Vec<String> = BOUNDS.iter().flat_map(|(key, seconds)| set(key, &seconds.to_string())).collect();
        let tokenization = Site::start(Service::Tokenization, Vec::new()).await;
        let endpoint = set("text.tokenization_endpoint", &url(&tokenization));
        let text = Site::start(Service::Text, [peers.clone(), endpoint.to_vec()].concat()).await;
        let image = Site::start(Service::Image, Vec::new()).await;
        let anomaly = Site::start(Service::Anomaly, Vec::new()).await;
        let evaluation = [
            set("evaluation.text_endpoint", &url(&text)),
            set("evaluation.image_endpoint", &url(&image)),
            set("evaluation.anomaly_endpoint", &url(&anomaly)),
            set("evaluation.journal", &journal.display().to_string()),
            set("evaluation.max_running", "2"),
            set("evaluation.keep_ended", "65536"),
        ];
        let evaluation = Site::start(Service::Evaluation, [peers, evaluation.concat()].concat()).await;
        Self(vec![tokenization, text, image, anomaly, evaluation])
    }

    fn site(&mut self, service: Service) -> &mut Site {
        self.0.iter_mut().find(|site| site.service == service).unwrap()
    }

    /// A channel to a service, that gives up as its own callers do.
    pub(super) fn channel(&self, service: Service) -> Channel {
        let site = self.0.iter().find(|site| site.service == service).unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", site.link.address)).unwrap();
        let [connect, interval, timeout] = BOUNDS.map(|(_, seconds)| Duration::from_secs(seconds));
        endpoint.connect_timeout(connect).http2_keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true).connect_lazy()
    }

    /// Lets a fault happen.
    pub(super) fn strike(&mut self, service: Service, fault: Fault) {
        let site = self.site(service);
        match fault {
            Fault::Killed => site.process.kill(),
            Fault::Restarted => {
                site.process.terminate();
                let status = site.process.ended();
                assert!(status.success(), "{service:?}: {status}");
            }
            Fault::Paused => site.process.signal("STOP"),
            Fault::CutOff => site.link.fall_silent(),
        }
    }

    /// Ends it.
    pub(super) fn mend(&mut self, service: Service, fault: Fault) {
        let site = self.site(service);
        match fault {
            Fault::Killed | Fault::Restarted => site.process = Site::run(service, &site.arguments, &site.address),
            Fault::Paused => site.process.signal("CONT"),
            Fault::CutOff => site.link.break_off(),
        }
    }

    /// Nobody has panicked.
    pub(super) fn check_logs(&self) {
        for site in &self.0 {
            let log = site.process.log();
            assert!(!log.contains("panicked"), "{:?}: {log}", site.service);
        }
    }
}
