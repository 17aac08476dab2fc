//! A gateway that serves nobody and keeps nothing: what `tollgate explain` asks.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::data_dir::{DataDir, random};
use super::{SnapshotError, StartError, codes, store};
use crate::clock::Clock;
use crate::config::{Config, RouteText};
use crate::decision::policy::Rules;
use crate::gateway::{BodyUnread, Exchange, Explained, Gateway, Head, Policies};
use crate::journal::{Journal, JournalSpec};
use crate::proxy::BODY_MAX;
use crate::store::spec::{StoreKind, StoreSpec};
use crate::telemetry::Metrics;

/// More counters than one request charges.
const KEYS_MAX: usize = 1024;

/// The rules of a configuration in a gateway of their own, in which nobody was counted yet.
pub struct Rehearsal {
    gateway: Gateway,
    policies: Policies,
    texts: Vec<RouteText>,
}

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct Imagined {
    pub method: Method,
    /// Without the query.
    pub path: Box<str>,
    pub query: Box<str>,
    pub headers: HeaderMap,
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
    pub body: Option<Bytes>,
}

impl Rehearsal {
    /// Connects to nobody: the store is one in memory, whatever the configuration names.
    pub fn new(config: Config) -> Result<Rehearsal, StartError> {
        let clock = Clock::system();
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let data = DataDir::without_folder(&random()?);
        let spec = StoreSpec {
            max_keys: KEYS_MAX,
            data_dir: config.store.data_dir.clone(),
            kind: StoreKind::Memory,
        };
        let hasher = store::hasher(&spec, &data);
        let journal = JournalSpec {
            folder: None,
            retention: config.retention,
            seal_key: data.seal_key,
            hash_check: store::hash_check(&hasher),
        };
        let journal = Journal::open(journal, metrics.journal(), clock.clone());
        let store = Arc::new(store::open(&spec, metrics.store(), clock.clone())?);
        let mut policies = Policies::new(config.rules, config.user, &metrics);
        if let Some(spec) = config.otp {
            let lasting = codes::lasting(&store, &journal, &data, &metrics, &clock);
            policies = policies.with_codes(codes::otp(spec, &lasting).map_err(SnapshotError::Codes)?);
        }
        let gateway = Gateway::new(store, clock, hasher, metrics, journal);
        Ok(Rehearsal { gateway, policies, texts: config.texts })
    }

    pub fn rules(&self) -> &Rules {
        &self.policies.rules
    }

    /// What each route matches, as it was written.
    pub fn texts(&self) -> &[RouteText] {
        &self.texts
    }

    /// What would become of a request if it were the first one.
    pub async fn explain(&self, mut request: Imagined) -> Explained {
        self.gateway.explain(&self.policies, &mut request).await
    }
}

impl Exchange for Imagined {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            authority: None,
            headers: &self.headers,
            peer: self.peer,
            request_id: None,
            trace: None,
            client_cert: None,
        }
    }

    fn has_body(&mut self) -> bool {
        self.body.is_some()
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyUnread> {
        match &self.body {
            Some(body) if body.len() > BODY_MAX => Err(BodyUnread::TooLarge),
            Some(body) => Ok(body.clone()),
            None => Ok(Bytes::new()),
        }
    }
}
