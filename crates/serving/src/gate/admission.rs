//! Who is let in when many want in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::{Kind, ServiceError},
    security::Key,
};

/// How long a tenant counts as active after its last call.
const ACTIVE: Duration = Duration::from_secs(5);

/// Tenants that are remembered; those that came last stay.
const REMEMBERED: usize = 4096;

/// Calls in progress over all services: bounded, and shared fairly between tenants.
///
/// A tenant alone may take every place. Where several are active, each may hold its share by weight, and what others
/// hold beyond theirs comes free as their calls end.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limit: usize,
    tenants: Arc<Mutex<Tenants>>,
}

#[derive(Debug, Default)]
struct Tenants {
    in_progress: usize,
    by_name: HashMap<Arc<str>, Tenant>,
}

#[derive(Debug)]
struct Tenant {
    in_progress: usize,
    weight: f64,
    last: Instant,
    /// Calls that may begin now, filled at the key's rate.
    tokens: f64,
}

/// Why a call was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Full {
    #[error("the server is full: {0} calls are in progress")]
    Server(usize),
    #[error("'{tenant}' has {in_progress} calls in progress: its share of {limit} is {share}")]
    Share { tenant: Arc<str>, in_progress: usize, share: usize, limit: usize },
    #[error("'{tenant}' has {in_progress} calls in progress: its key allows {limit}")]
    Key { tenant: Arc<str>, in_progress: usize, limit: usize },
    #[error("'{tenant}' calls more than {limit} times a second")]
    Rate { tenant: Arc<str>, limit: f64, again: Duration },
}

impl ServiceError for Full {
    fn kind(&self) -> Kind {
        let retry_after = match self {
            Self::Rate { again, .. } => *again,
            _ => Duration::from_millis(500),
        };
        Kind::ResourceExhausted { retry_after }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Server(_) => "SERVER_FULL",
            Self::Share { .. } => "SHARE_USED_UP",
            Self::Key { .. } => "KEY_CONCURRENCY_USED_UP",
            Self::Rate { .. } => "KEY_RATE_EXCEEDED",
        }
    }
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, tenants: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in while there is room.
    pub(crate) fn admit(&self, name: &Arc<str>, key: Option<&Key>) -> Result<Place, Full> {
        let now = Instant::now();
        let mut tenants = self.lock();
        let total = tenants.in_progress;
        if total >= self.limit {
            return Err(Full::Server(total));
        }
        if tenants.by_name.len() >= REMEMBERED {
            tenants.by_name.retain(|_, tenant| tenant.in_progress > 0 || now - tenant.last < ACTIVE);
        }
        let weight = key.map_or(1.0, |key| key.weight);
        let rate = key.and_then(|key| key.requests_per_second);
        let tenant = tenants.by_name.entry(Arc::clone(name)).or_insert_with(|| Tenant {
            in_progress: 0,
            weight,
            last: now,
            tokens: rate.unwrap_or_default().max(1.0),
        });
        let since = now - std::mem::replace(&mut tenant.last, now);
        tenant.weight = weight;
        let in_progress = tenant.in_progress;
        if let Some(rate) = rate {
            tenant.tokens = (tenant.tokens + since.as_secs_f64() * rate).min(rate.max(1.0));
            if tenant.tokens < 1.0 {
                let again = Duration::from_secs_f64((1.0 - tenant.tokens) / rate);
                return Err(Full::Rate { tenant: Arc::clone(name), limit: rate, again });
            }
        }
        if let Some(limit) = key.and_then(|key| key.max_concurrent).filter(|limit| in_progress >= *limit) {
            return Err(Full::Key { tenant: Arc::clone(name), in_progress, limit });
        }
        let active = tenants.by_name.values().filter(|tenant| tenant.in_progress > 0 || now - tenant.last < ACTIVE);
        let weights: f64 = active.map(|tenant| tenant.weight).sum();
        let share = ((self.limit as f64 * weight / weights).ceil() as usize).max(1);
        if in_progress >= share {
            return Err(Full::Share { tenant: Arc::clone(name), in_progress, share, limit: self.limit });
        }
        tenants.in_progress += 1;
        if let Some(tenant) = tenants.by_name.get_mut(name) {
            tenant.in_progress += 1;
            // Counted only under a rate: a key that is given one later starts with a full measure.
            tenant.tokens = if rate.is_some() { tenant.tokens - 1.0 } else { f64::INFINITY };
        }
        Ok(Place { admission: self.clone(), name: Arc::clone(name) })
    }
}

/// A call's place among those in progress: free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    name: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = self.admission.lock();
        tenants.in_progress = tenants.in_progress.saturating_sub(1);
        if let Some(tenant) = tenants.by_name.get_mut(&self.name) {
            tenant.in_progress = tenant.in_progress.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(weight: f64, max_concurrent: Option<usize>, requests_per_second: Option<f64>) -> Key {
        Key { name: "k".into(), scopes: Vec::new(), weight, max_concurrent, requests_per_second, priority: 1 }
    }

    #[test]
    fn one_tenant_alone_takes_all_and_two_share() {
        let admission = Admission::new(8);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut held: Vec<Place> = (0..8).map(|_| admission.admit(&a, None).unwrap()).collect();
        assert!(matches!(admission.admit(&b, None), Err(Full::Server(8))));
        held.pop();
        // The place that came free is b's: a holds more than its half.
        let first = admission.admit(&b, None).unwrap();
        held.pop();
        assert!(matches!(admission.admit(&a, None), Err(Full::Share { share: 4, .. })));
        drop((first, held));
        assert_eq!(admission.lock().in_progress, 0);
    }

    #[test]
    fn weights_concurrency_and_rates_are_the_keys_own() {
        let admission = Admission::new(12);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let _b = admission.admit(&b, Some(&key(1.0, None, None))).unwrap();
        let heavy = key(3.0, None, None);
        let held: Vec<Place> = (0..9).map(|_| admission.admit(&a, Some(&heavy)).unwrap()).collect();
        assert!(matches!(admission.admit(&a, Some(&heavy)), Err(Full::Share { share: 9, .. })));
        drop(held);
        let narrow = key(3.0, Some(1), None);
        let _one = admission.admit(&a, Some(&narrow)).unwrap();
        assert!(matches!(admission.admit(&a, Some(&narrow)), Err(Full::Key { limit: 1, .. })));
        let (c, slow): (Arc<str>, _) = ("c".into(), key(1.0, None, Some(0.01)));
        let _first = admission.admit(&c, Some(&slow)).unwrap();
        let Err(Full::Rate { again, .. }) = admission.admit(&c, Some(&slow)) else { panic!("let in") };
        assert!(again > Duration::from_secs(90));
    }
}
