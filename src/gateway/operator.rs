//! What operators do: block somebody on every route, and let somebody go.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;

use super::Gateway;
use super::memo::{counter_of, memo};
use super::policies::Policies;
use crate::decision::block::Block;
use crate::decision::client::Client;
use crate::decision::key::{Form, KeyHash, KeyPart, KeySpec, LimitId, PartTag};
use crate::decision::suspicion::{BanSpec, Suspicion};
use crate::decision::time::Span;
use crate::decision::value::{ValueFault, normalise};
use crate::journal::{BlockId, BlockRecord, Durable, Event, EventKind, Identifier, Reason};
use crate::store::Forgotten;

/// Whom an operator wants blocked.
#[derive(Clone, Debug)]
pub struct BlockOrder {
    /// What is blocked: `ip`, `user`, a field of the body, or several together.
    pub key: KeySpec,
    /// The value of each part, in their order, as a request would bring it.
    pub values: Vec<String>,
    pub span: Span,
    /// The operator's name.
    pub by: Box<str>,
    /// What the operator wants to be remembered; sealed on disk.
    pub note: Option<Box<str>>,
}

/// Why nobody is blocked by an order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderFault {
    #[error("a key of {parts} parts needs as many values, not {values}")]
    Values { parts: usize, values: usize },
    #[error("{value:?} is not an IP address")]
    Address { value: Box<str> },
    #[error("{key}: {fault}")]
    Value { key: Box<str>, fault: ValueFault },
    #[error("{key} is empty")]
    Empty { key: Box<str> },
    #[error("everybody would be blocked")]
    Everybody,
}

impl Gateway {
    /// Blocks a value on every route that knows it, in the place of what added up against it. When this returns the
    /// block is on disk.
    pub async fn block(
        &self,
        policies: &Policies,
        order: BlockOrder,
    ) -> Result<(Arc<BlockRecord>, Durable), OrderFault> {
        let now = self.clock.now();
        let ban = BanSpec::new(order.key.clone()).id;
        let (key, identifier) = self.named(policies, &order, ban)?;
        let suspicion = policies.rules.suspicion.iter().find(|rule| rule.ban.id == ban);
        let counted = match suspicion.and_then(Suspicion::any_limit) {
            Some(limit) => Some(self.named(policies, &order, limit.id)?.0),
            None => None,
        };
        if let Some(counted) = counted {
            self.forget(counted).await;
        }
        let until = now.plus(order.span);
        let record = Arc::new(BlockRecord {
            id: self.block_id(now),
            key,
            key_kind: order.key.to_string().into(),
            identifier: identifier.clone(),
            reason: Reason::Operator,
            route: None,
            policy: None,
            attempts: 0,
            created_at: now,
            block: Block { until, level: 0, forget_at: until },
            by: Some(order.by.clone()),
            spec: memo(counted, order.note.as_deref()),
        });
        let durable = self.journal.block(Arc::clone(&record)).await;
        self.journal.note(Event {
            key: Some(Arc::clone(&record.key_kind)),
            identifier: Some(identifier),
            detail: Some(format!("by {}, for {}", order.by, order.span).into()),
            ..Event::new(EventKind::Blocked, now)
        });
        Ok((record, durable))
    }

    /// Lets a blocked key go and forgets what it was blocked for, so that it starts anew. None if it is not
    /// blocked.
    pub async fn unblock(&self, id: BlockId, by: &str) -> Option<Arc<BlockRecord>> {
        let record = self.journal.book().find(id)?;
        self.release(&record, by).await
    }

    /// The same of a block that was found already.
    pub async fn release(&self, record: &BlockRecord, by: &str) -> Option<Arc<BlockRecord>> {
        let now = self.clock.now();
        // What was counted goes first: a request in between must not begin the same block again.
        self.forget(record.key).await;
        if let Some(counted) = counter_of(record) {
            self.forget(counted).await;
        }
        self.journal.unblock(record.key, Some(by), now).await
    }

    /// Forgets a key where it is counted.
    pub(super) async fn forget(&self, key: KeyHash) {
        match self.store.forget(key).await {
            Forgotten::Everywhere => {}
            Forgotten::Here => tracing::warn!(
                "the shared store could not be told to forget a key; other gateways go on from what they know"
            ),
        }
    }

    /// The key that `id` has for these values, and the values for people.
    pub(super) fn key_of<'a>(
        &self,
        policies: &Policies,
        id: LimitId,
        form: Form,
        parts: impl Iterator<Item = (&'a KeyPart, &'a str)>,
    ) -> Result<(KeyHash, Identifier), OrderFault> {
        let mut writer = self.hasher.key(id);
        let mut shown: SmallVec<[(String, String); 2]> = SmallVec::new();
        for (part, value) in parts {
            let told = match part {
                KeyPart::Ip => {
                    let client = self.client(policies, value)?;
                    writer.push(PartTag::Ip, &client.key_bytes());
                    client.shown()
                }
                KeyPart::Network => {
                    let client = self.client(policies, value)?;
                    writer.push(PartTag::Network, &client.network_bytes());
                    client.shown_network()
                }
                KeyPart::User => {
                    writer.push(PartTag::User, value.as_bytes());
                    value.to_owned()
                }
                KeyPart::Global => {
                    writer.push(PartTag::Global, &[]);
                    "everybody".to_owned()
                }
                KeyPart::ClientCert
                | KeyPart::Header(_)
                | KeyPart::Cookie(_)
                | KeyPart::Query(_)
                | KeyPart::Path(_)
                | KeyPart::Body(_)
                | KeyPart::Phone => {
                    let name = || part.to_string().into();
                    let normal = normalise(form, value)
                        .map_err(|fault| OrderFault::Value { key: name(), fault })?
                        .ok_or_else(|| OrderFault::Empty { key: name() })?;
                    writer.push(PartTag::Value, normal.as_bytes());
                    normal.into_owned()
                }
            };
            shown.push((part.to_string(), told));
        }
        let parts: Vec<(&str, &str)> = shown.iter().map(|(kind, value)| (&**kind, &**value)).collect();
        Ok((writer.finish(), Identifier::new(&parts)))
    }

    /// The key by which requests with these values are looked up under `id`, and the values for people.
    fn named(
        &self,
        policies: &Policies,
        order: &BlockOrder,
        id: LimitId,
    ) -> Result<(KeyHash, Identifier), OrderFault> {
        let BlockOrder { key, values, .. } = order;
        if key.parts.len() != values.len() {
            return Err(OrderFault::Values { parts: key.parts.len(), values: values.len() });
        }
        if key.parts.contains(&KeyPart::Global) {
            return Err(OrderFault::Everybody);
        }
        let parts = key.parts.iter().zip(values).map(|(part, value)| (part, value.as_str()));
        self.key_of(policies, id, key.form, parts)
    }

    fn client(&self, policies: &Policies, text: &str) -> Result<Client, OrderFault> {
        let address: IpAddr = text.trim().parse().map_err(|_| OrderFault::Address { value: text.into() })?;
        Ok(Client::of_address(address, policies.rules.client.ipv6_prefix))
    }
}
