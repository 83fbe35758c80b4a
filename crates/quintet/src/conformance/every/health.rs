use std::time::Duration;

use futures_util::StreamExt;
use tokio_stream::once;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use super::Ground;
use crate::conformance::{
    check::{Checked, Verdict, ensure, shown},
    service::Service,
    target::Target,
};

/// A name that no service has.
const NOBODY: &str = "quintet.conformance.v1.NoSuchService";

/// How long a stream that stays is watched for its end.
const STAYS: Duration = Duration::from_millis(500);

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// The services of the contracts that the target says it has: by reflection, and by health.
pub(in crate::conformance) async fn served(target: &Target) -> Result<Vec<Service>, String> {
    let listed = listed(target).await.unwrap_or_default();
    let mut served = Vec::new();
    let mut health = HealthClient::new(target.channel());
    for service in Service::ALL {
        let name = service.full_name();
        if listed.iter().any(|listed| listed == name) {
            served.push(service);
            continue;
        }
        match health.check(asking(name)).await {
            Ok(_) => served.push(service),
            Err(status) if status.code() == Code::Unavailable => return Err(status.message().to_owned()),
            Err(_) => (),
        }
    }
    Ok(served)
}

/// The services that reflection lists, by either of its versions.
async fn listed(target: &Target) -> Result<Vec<String>, Status> {
    match newer(target).await {
        Err(status) if status.code() == Code::Unimplemented => older(target).await,
        answer => answer,
    }
}

macro_rules! reflect {
    ($name:ident, $version:ident) => {
        async fn $name(target: &Target) -> Result<Vec<String>, Status> {
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };

            let ask = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
            let mut answers = ServerReflectionClient::new(target.channel()).server_reflection_info(once(ask)).await?.into_inner();
            let answer = answers.message().await?.and_then(|answer| answer.message_response);
            let Some(MessageResponse::ListServicesResponse(list)) = answer else { return Ok(Vec::new()) };
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
    };
}
reflect!(newer, v1);
reflect!(older, v1alpha);

pub(super) async fn check(ground: &Ground) -> Checked {
    let mut health = HealthClient::new(ground.target.channel());
    let status = health.check(asking(ground.service)).await?.into_inner().status();
    ensure!(status == ServingStatus::Serving, "Check of {} gives {status:?}", ground.service);
    health.check(asking("")).await?;
    match health.check(asking(NOBODY)).await {
        Ok(answer) => Err(Verdict::failed(format!("Check of {NOBODY} gives {:?}", answer.into_inner().status()))),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(Verdict::failed(format!("Check of {NOBODY} ends with {}", shown(&status)))),
    }
}

pub(super) async fn watch(ground: &Ground) -> Checked {
    let mut health = HealthClient::new(ground.target.channel());
    let mut known = health.watch(asking(ground.service)).await?.into_inner();
    let first = known.message().await?.map(|answer| answer.status());
    ensure!(first == Some(ServingStatus::Serving), "Watch of {} begins with {first:?}", ground.service);
    let unknown = match health.watch(asking(NOBODY)).await {
        Ok(unknown) => unknown,
        Err(status) => return Err(Verdict::failed(format!("Watch of {NOBODY} ends with {}", shown(&status)))),
    };
    let mut unknown = unknown.into_inner();
    let first = unknown.message().await.map_err(|status| Verdict::failed(format!("Watch of {NOBODY} ends with {}", shown(&status))))?;
    let first = first.map(|answer| answer.status());
    ensure!(first == Some(ServingStatus::ServiceUnknown), "Watch of {NOBODY} begins with {first:?}");
    // Whether a stream stays can only be waited for.
    match tokio::time::timeout(STAYS, unknown.next()).await {
        Err(_) => Ok(()),
        Ok(next) => Err(Verdict::failed(format!("Watch of {NOBODY} went on with {next:?}"))),
    }
}

pub(super) async fn without_key(ground: &Ground) -> Checked {
    let Some(channel) = ground.target.without_key().await? else { return Err(Verdict::skipped("no API key was given: none may be needed")) };
    let status = HealthClient::new(channel).check(asking(ground.service)).await?.into_inner().status();
    ensure!(status == ServingStatus::Serving, "without a key Check gives {status:?}");
    Ok(())
}

pub(super) async fn reflection(ground: &Ground) -> Checked {
    let listed = listed(&ground.target).await.map_err(|status| Verdict::failed(format!("reflection ends with {}", shown(&status))))?;
    ensure!(listed.iter().any(|name| name == ground.service), "reflection lists {}", listed.join(", "));
    Ok(())
}
