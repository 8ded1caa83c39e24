//! A program of ours with one receiver more: what a new receiver takes is what stands in this file.
//!
//! `netflume-own-receiver run|record FILE|replay FILE`: its source counts, its engine prints a line for each number.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver as Wakes, channel};
use std::time::Instant;

use netflume::cli::{RecordOptions, ReplayOptions};
use netflume::config::{self, Origin, Overrides};
use netflume::export::console::Line;
use netflume::export::sinks::Sinks;
use netflume::pipeline;
use netflume::receivers::cilium::CiliumReceiver;
use netflume::receivers::ebpf::EbpfReceiver;
use netflume::receivers::{
    Change, Diagnosis, Engine, EngineContext, EngineError, Receiver, ReceiverOptions, Settings,
    Source, SourceContext, SourceError, SourceReport, Waker,
};
use netflume::serve::health::SourceState;
use netflume_core::model::batch::{Batch, BatchKind, Now};

/// Those of netflume, and one more.
const ALL: &[&dyn Receiver] = &[&EbpfReceiver, &CiliumReceiver, &Counter];
const COUNT: BatchKind = BatchKind(0x7fff);
/// Batches that come at once; one more comes at the end.
const AT_ONCE: u64 = 3;

struct Counter;

impl Receiver for Counter {
    fn key(&self) -> &'static str {
        "counter"
    }

    fn is_enabled(&self, _: &Settings) -> bool {
        true
    }

    fn kinds(&self) -> &'static [BatchKind] {
        &[COUNT]
    }

    fn open(&self, _: &Settings, context: &SourceContext) -> Result<Box<dyn Source>, SourceError> {
        let (sender, wakes) = channel();
        context.health.source(self.key(), SourceState::Running);
        let waker = Waker::new(move || sender.send(()).unwrap_or_default());
        Ok(Box::new(Counting {
            next: 0,
            wakes,
            waker,
        }))
    }

    fn engine(&self, _: &Settings, context: EngineContext) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Printing {
            sinks: context.sinks,
            ticks: 0,
        }))
    }

    fn doctor(&self, _: &Settings) -> Diagnosis {
        Diagnosis::default()
    }
}

struct Counting {
    next: u64,
    wakes: Wakes<()>,
    waker: Waker,
}

impl Counting {
    fn batch(&mut self) -> Batch {
        self.next += 1;
        Batch {
            kind: COUNT,
            unix_ns: self.next * 2_000_000_000,
            boot_ns: self.next * 2_000_000_000,
            bytes: self.next.to_le_bytes().to_vec(),
        }
    }
}

impl Source for Counting {
    fn read(&mut self, deadline: Instant, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        if self.next < AT_ONCE {
            batches.push(self.batch());
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let _woken_or_late = self.wakes.recv_timeout(left);
        Ok(())
    }

    fn reconfigure(&mut self, _: &Settings) {}

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn finish(&mut self, batches: &mut Vec<Batch>) {
        batches.push(self.batch());
    }

    fn report(&self) -> SourceReport {
        SourceReport {
            summary: "numbers".to_owned(),
            costs: vec!["counting costs nothing".to_owned()],
        }
    }
}

struct Printing {
    sinks: Sinks,
    ticks: u64,
}

impl Printing {
    fn print(&self, unix_ns: u64, kind: &str, notes: String) -> Result<(), EngineError> {
        let line = Line {
            unix_ns,
            kind: kind.to_owned(),
            notes,
            ..Line::default()
        };
        Ok(self.sinks.lines(vec![line])?)
    }
}

impl Engine for Printing {
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let number = batch.bytes.first().copied().unwrap_or_default();
        self.print(batch.unix_ns, "count", format!("number {number}"))
    }

    fn tick(&mut self, _: Now) -> Result<(), EngineError> {
        self.ticks += 1;
        Ok(())
    }

    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError> {
        self.sinks.set_exporter(change.exporter.clone());
        Ok(())
    }

    fn finish(&mut self, now: Now) -> Result<(), EngineError> {
        self.print(now.unix_ns, "count", format!("ticks {}", self.ticks))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let parsed = config::parse(None, &|_| None, Overrides::default());
    let mut config = parsed
        .map_err(|problems| anyhow::anyhow!("{problems}"))?
        .config;
    config.receivers = ReceiverOptions::default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => pipeline::run(config, Origin::default(), ALL),
        ["record", output] => {
            let options = RecordOptions {
                config: None,
                output: output.into(),
            };
            pipeline::record(&config, &options, ALL)
        }
        ["replay", file] => {
            let options = ReplayOptions {
                file: file.into(),
                config: None,
                output: None,
            };
            pipeline::replay(&config, &options, ALL)
        }
        _ => anyhow::bail!("netflume-own-receiver run | record FILE | replay FILE"),
    }
}
