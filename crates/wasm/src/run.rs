//! One instance from its first instruction to its last, and what to make of how it ended.

use std::time::{Duration, Instant};

use types::limits::{Bytes, MAX_DEPTH, ToolLimits};
use types::{Refusal, Rule};
use wasmtime::{CallHook, Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use crate::host::{Host, contract};
use crate::http::Outcome;
use crate::limits::MAX_HOST_CALL_BYTES;
use crate::rules;

/// How a call ended, and what it used.
#[derive(Debug)]
pub(crate) struct Ended {
    how: How,
    /// The limit that last refused the guest something.
    limit: Option<&'static Rule>,
    pub(crate) used: Used,
}

/// What one call used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Units of fuel.
    pub(crate) fuel: u64,
    /// Linear memory at its peak.
    pub(crate) memory: Bytes,
    /// Calls into the host.
    pub(crate) host_calls: u32,
    /// How long it took until the instance was ready.
    pub(crate) instance: Duration,
}

impl Default for Used {
    fn default() -> Self {
        Self { fuel: 0, memory: Bytes(0), host_calls: 0, instance: Duration::ZERO }
    }
}

#[derive(Debug)]
enum How {
    /// The function returned.
    Returned(Result<String, String>),
    /// WebAssembly or a host function stopped it.
    Stopped(wasmtime::Error),
    /// It was cut off: by the clock, or by a refusal that ends a call at once.
    CutOff,
}

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A limit stopped it.
    Refused(Refusal),
    /// It failed: its own words, or ours about its crash.
    Failed(String),
}

/// Runs one call in a fresh instance. Fuel, time and every other limit hold from the first instruction of the first
/// initialiser; whatever is still open when it ends goes with the store.
pub(crate) async fn run(
    engine: &Engine,
    tool: &contract::ToolPre<Host>,
    host: Host,
    arguments: &str,
    limits: &ToolLimits,
    outcome: &Outcome,
) -> Ended {
    let began = Instant::now();
    let mut instance = Duration::ZERO;
    let mut store = match fresh_store(engine, host, limits, began) {
        Ok(store) => store,
        Err(error) => return Ended { how: How::Stopped(error), limit: None, used: Used::default() },
    };
    let call = async {
        let tool = tool.instantiate_async(&mut store).await?;
        instance = began.elapsed();
        tool.call_call(&mut store, arguments).await
    };
    let how = tokio::select! {
        biased;
        () = outcome.over() => How::CutOff,
        ended = tokio::time::timeout(limits.time, call) => match ended {
            Ok(Ok(result)) => How::Returned(result),
            Ok(Err(error)) => How::Stopped(error),
            Err(_) => How::CutOff,
        },
    };
    let left = store.get_fuel().unwrap_or_default();
    let meter = &store.data().meter;
    Ended {
        how,
        limit: meter.refused(),
        used: Used {
            fuel: limits.fuel.saturating_sub(left),
            memory: Bytes(meter.memory() as u64),
            host_calls: meter.host_calls(),
            instance,
        },
    }
}

fn fresh_store(
    engine: &Engine,
    host: Host,
    limits: &ToolLimits,
    began: Instant,
) -> wasmtime::Result<Store<Host>> {
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.meter);
    store.set_fuel(limits.fuel)?;
    store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
    store.call_hook(|mut context, hook| match hook {
        CallHook::CallingHost => context.data_mut().meter.count_host_call(),
        _ => Ok(()),
    });
    // A guest that computes never waits, so a timer alone would depend on the executor to notice it.
    let deadline = began + limits.time;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |mut context| {
        if Instant::now() >= deadline {
            return Ok(UpdateDeadline::Interrupt);
        }
        context.data_mut().meter.forgive_host_call();
        Ok(UpdateDeadline::Yield(1))
    });
    Ok(store)
}

impl Ended {
    /// What the call comes to: a text to hand on, or why there is none. What was refused to the guest while it ran
    /// decides, whatever the guest made of it.
    pub(crate) fn judge(self, refused: Option<Refusal>, limits: &ToolLimits) -> Result<String, Fault> {
        if let Some(refusal) = refused {
            return Err(Fault::Refused(refusal));
        }
        match self.how {
            How::Returned(result) => {
                let (Ok(text) | Err(text)) = &result;
                check_output(text, limits.output)?;
                result.map_err(Fault::Failed)
            }
            How::CutOff => Err(limit(&rules::TIME, limits)),
            How::Stopped(error) => Err(stopped(&error, self.limit, limits)),
        }
    }
}

/// Finds the cause of a crash: a limit that said no comes before what the guest then tripped over.
fn stopped(error: &wasmtime::Error, refused: Option<&'static Rule>, limits: &ToolLimits) -> Fault {
    let trap = error.downcast_ref::<Trap>();
    let by_limit = match trap {
        Some(Trap::OutOfFuel) => Some(&rules::FUEL),
        Some(Trap::Interrupt) => Some(&rules::TIME),
        Some(Trap::StackOverflow) => Some(&rules::STACK),
        _ if error.is::<PoolConcurrencyLimitError>() => Some(&rules::BUSY),
        _ => refused,
    };
    match (by_limit, trap) {
        (Some(rule), _) => limit(rule, limits),
        // wasmtime's words for a trap are a fixed list.
        (None, Some(trap)) => Fault::Failed(format!("the tool crashed: {trap}")),
        (None, None) if error.is::<I32Exit>() => Fault::Failed("the tool exited before it answered".into()),
        (None, None) => limit(&rules::INTERFACE, limits),
    }
}

fn limit(rule: &'static Rule, limits: &ToolLimits) -> Fault {
    let (detail, key) = match rule.id {
        id if id == rules::FUEL.id => (format!("the limit is {} units", limits.fuel), "fuel"),
        id if id == rules::MEMORY.id => (format!("the limit is {}", limits.memory), "memory_mib"),
        id if id == rules::TIME.id => (format!("the limit is {} ms", limits.time.as_millis()), "time_ms"),
        id if id == rules::OUTPUT.id => (format!("the limit is {}", limits.output), "output_kib"),
        id if id == rules::HOST_CALLS.id => {
            (format!("the limit is {} calls", limits.host_calls), "host_calls")
        }
        _ => (String::new(), ""),
    };
    let refusal = Refusal::new(rule, detail);
    Fault::Refused(if key.is_empty() {
        refusal
    } else {
        refusal.widened_by(format!(
            "raise `{key}` under [limits] in the tool's manifest, then: ironclaw tool install PATH"
        ))
    })
}

/// Bounds a result before anything parses it: its length, and how deep its JSON goes.
fn check_output(text: &str, limit: Bytes) -> Result<(), Fault> {
    if text.len() as u64 > limit.0 {
        let detail = format!("{} bytes, the limit is {limit}", text.len());
        return Err(Fault::Refused(Refusal::new(&rules::OUTPUT, detail)));
    }
    if depth(text) > MAX_DEPTH {
        let detail = format!("JSON nested deeper than {MAX_DEPTH} levels");
        return Err(Fault::Refused(Refusal::new(&rules::OUTPUT, detail)));
    }
    Ok(())
}

/// The deepest nesting of a text that begins like a JSON array or object, without building anything.
fn depth(text: &str) -> usize {
    if !text.trim_start().starts_with(['{', '[']) {
        return 0;
    }
    let (mut now, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w07_depth_is_counted_outside_strings() {
        assert_eq!(depth("plain [text"), 0);
        assert_eq!(depth(r#"{"a":[1,{"b":"[[[[{\"[["}]}"#), 3);
        assert_eq!(depth(&"[".repeat(10_000)), 10_000);
        assert!(check_output(&"[".repeat(10_000), Bytes::mib(1)).is_err());
        assert!(check_output("[[]]", Bytes::mib(1)).is_ok());
        assert!(check_output("four", Bytes(3)).is_err());
    }
}
