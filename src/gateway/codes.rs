//! Routes that the gateway answers itself: one-time codes.

use bytes::Bytes;

use super::attempt::Attempt;
use super::policies::Policies;
use super::{BodyUnread, Exchange, Gateway, Seen, read_body_fields};
use crate::decision::otp::{Operation, OtpFault, OtpRoute};
use crate::decision::plan::Plan;
use crate::decision::policy::{Route, Standing};
use crate::decision::refusal::Refusal;
use crate::decision::reject;
use crate::decision::route::RouteIndex;
use crate::decision::tally::{Charge, Outcome, Settlement};
use crate::decision::time::Timestamp;
use crate::decision::verdict::{Permit, conclude};
use crate::otp::{Answer, Otp, Task, Wish};

impl Gateway {
    /// Decides a request for a code or about one. Who is on the allow list is counted by where the code goes, and by
    /// nothing else.
    pub(super) async fn decide_codes(
        &self,
        policies: &Policies,
        codes: OtpRoute,
        standing: Standing,
        exchange: &mut impl Exchange,
        seen: &mut Seen,
    ) -> Result<Permit, Refusal> {
        let index = seen.route.ok_or(Refusal::NoRoute)?;
        let route = policies.rules.route(index);
        let otp = policies.otp().ok_or(Refusal::NoRoute)?;
        match standing {
            Standing::Allowed => {}
            Standing::Ordinary | Standing::Denied => {
                self.plan_by_head(policies, route, exchange, seen).await?;
            }
        }
        let body = self.read_codes_body(route, codes, exchange, seen).await?;
        let task = self.ask(otp, route, codes, &body, exchange, seen).await.map_err(Refusal::Otp)?;
        seen.destination = task.destination();
        if task.is_told_again() {
            seen.task = Some(task);
            return Ok(Permit::exempt());
        }
        match self.charge_codes(policies, index, standing, exchange, seen).await {
            Ok(permit) => {
                seen.task = Some(task);
                Ok(permit)
            }
            Err(refusal) => {
                otp.abandon(task).await;
                Err(refusal)
            }
        }
    }

    /// What the head of the request is counted by, and the cheap no.
    async fn plan_by_head(
        &self,
        policies: &Policies,
        route: &Route,
        exchange: &impl Exchange,
        seen: &mut Seen,
    ) -> Result<(), Refusal> {
        let head = exchange.head();
        if policies.needs_user(route) {
            seen.user = policies.users.identify(head.headers, seen.client.peer_is_trusted, seen.decided_at);
        }
        seen.plan = Plan::without_body(route, &seen.facts(head)?, &self.hasher)?;
        self.refuse_blocked(route, &seen.plan, &seen.facts(head)?, None, seen.decided_at)?;
        let looked = self.store.peek(&seen.plan.charges(route), seen.decided_at).await;
        let conclusion = conclude(route, seen.plan.limits(), &looked, seen.decided_at);
        seen.began = conclusion.began;
        conclusion.outcome?;
        Ok(())
    }

    /// Reads what the operation needs of the body: its fields, or all of it as it is.
    async fn read_codes_body(
        &self,
        route: &Route,
        codes: OtpRoute,
        exchange: &mut impl Exchange,
        seen: &mut Seen,
    ) -> Result<Bytes, Refusal> {
        let watch = self.clock.stopwatch();
        let mut body = Bytes::new();
        match codes.operation {
            Operation::Receipts if exchange.has_body() => {
                body = exchange.read_body().await.map_err(|unread: BodyUnread| Refusal::from(unread))?;
                seen.fields = Some(Default::default());
            }
            Operation::Send
            | Operation::Verify
            | Operation::Status
            | Operation::Receipts
            | Operation::Jwks => {
                let fields = match route.body_fields() {
                    [] => Default::default(),
                    [_, ..] => read_body_fields(route, exchange).await?,
                };
                reject::judge(route.rejects(), &fields)?;
                seen.fields = Some(fields);
            }
        }
        seen.waited = watch.elapsed();
        seen.decided_at = self.clock.now();
        Ok(body)
    }

    async fn ask(
        &self,
        otp: &Otp,
        route: &Route,
        codes: OtpRoute,
        body: &Bytes,
        exchange: &impl Exchange,
        seen: &Seen,
    ) -> Result<Task, OtpFault> {
        let (Some(fields), Some(path)) = (&seen.fields, &seen.path) else { return Err(OtpFault::NotFound) };
        let head = exchange.head();
        let param = |name: &str| route.pattern().path.param(name, path).map(|value| value.into_owned());
        otp.ask(&Wish {
            operation: codes.operation,
            route: route.name(),
            method: head.method,
            path: head.path,
            query: head.query,
            headers: head.headers,
            client: seen.client.address,
            fields,
            body,
            param: &param,
            now: seen.decided_at,
        })
        .await
    }

    async fn charge_codes(
        &self,
        policies: &Policies,
        index: RouteIndex,
        standing: Standing,
        exchange: &impl Exchange,
        seen: &mut Seen,
    ) -> Result<Permit, Refusal> {
        let (route, head) = (policies.rules.route(index), exchange.head());
        let fields = seen.fields.take().unwrap_or_default();
        let mut plan = std::mem::take(&mut seen.plan);
        let planned = seen.facts(head).and_then(|facts| match standing {
            Standing::Allowed => Ok(plan.add_destination(route, &facts, &fields, &self.hasher)?),
            Standing::Ordinary | Standing::Denied => {
                plan.add_body(route, &facts, &fields, &self.hasher)?;
                self.refuse_blocked(route, &plan, &facts, Some(&fields), seen.decided_at)
            }
        });
        (seen.plan, seen.fields) = (plan, Some(fields));
        planned?;
        let tallies = self.store.take(&seen.plan.charges(route), seen.decided_at).await;
        let permit = self.concluded(route, &tallies, seen)?;
        if tallies.list.iter().any(|tally| tally.held.is_some()) {
            seen.attempt = Some(Box::new(self.attempt(policies, index, seen, &tallies, head)?));
        }
        Ok(permit)
    }

    /// Does what an admitted request of a route of codes asks for, and settles what it reserved.
    pub async fn perform(
        &self,
        policies: &Policies,
        route: RouteIndex,
        task: Task,
        attempt: Option<Box<Attempt>>,
    ) -> Answer {
        let Some(otp) = policies.otp() else { return Answer::from(&OtpFault::NotFound) };
        let now = self.clock.now();
        let answer = match task {
            Task::Again(answer) => Ok(answer),
            Task::Jwks => Ok(otp.jwks()),
            Task::Status { slot, nonce } => otp.status(slot, nonce, now).await,
            Task::Receipt(order) => otp.take_receipt(&order, now).await,
            Task::Verify(order) => {
                let verdict = otp.verify(&order, now).await;
                if let Some(attempt) = attempt {
                    self.observe(policies, *attempt, verdict.outcome).await;
                }
                verdict.answer
            }
            Task::Send(order) => match otp.open(order, now).await {
                Ok(opened) => {
                    let resend_at = self.count_code(policies, route, attempt, CodeIs::Kept).await;
                    Ok(otp.send(opened, resend_at, self.clock.now()).await)
                }
                Err(fault) => {
                    self.count_code(policies, route, attempt, CodeIs::Refused).await;
                    Err(fault)
                }
            },
        };
        answer.unwrap_or_else(|fault| Answer::from(&fault))
    }

    /// Counts a code against its destination: when the next one may be asked for.
    async fn count_code(
        &self,
        policies: &Policies,
        index: RouteIndex,
        attempt: Option<Box<Attempt>>,
        code: CodeIs,
    ) -> Option<Timestamp> {
        let route = policies.rules.route(index);
        let attempt = attempt?;
        let held = attempt.holdings.iter().filter_map(|holding| {
            let limit = route.limits().get(usize::from(holding.limit))?;
            let outcome = match code {
                CodeIs::Kept => Outcome::Failure,
                CodeIs::Refused => Outcome::Neither,
            };
            Some(Settlement { charge: Charge { key: holding.key, limit }, held: holding.held, outcome })
        });
        let settlements: Vec<Settlement<'_>> = held.collect();
        let aftermaths = self.store.settle(&settlements, self.clock.now()).await;
        aftermaths.iter().filter_map(|aftermath| aftermath.judgement.retry_at()).max()
    }
}

/// Whether there is a code that is sent now.
#[derive(Clone, Copy)]
enum CodeIs {
    Kept,
    Refused,
}
