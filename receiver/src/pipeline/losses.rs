//! What was lost on the way to an output, on standard error and in the exit status.

use std::process::ExitCode;

use netflume_core::ledger::{Ledgers, Reason, Stage};

use super::print_line;

/// Where records, points and spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// A terminal, a file or a pipe.
    Console,
    /// By OTLP.
    Collector,
}

/// Prints a line for each output that did not get everything; then the exit status is that of a failure.
pub(super) fn report(ledgers: &Ledgers, outputs: &[Output]) -> Option<ExitCode> {
    let lines: Vec<_> = outputs
        .iter()
        .flat_map(|output| lines(ledgers, *output))
        .collect();
    lines.iter().for_each(|line| print_line(line));
    (!lines.is_empty()).then_some(ExitCode::FAILURE)
}

fn lines(ledgers: &Ledgers, output: Output) -> Vec<String> {
    // An output that broke has an error of its own.
    let left = |reason: Reason| reason.is_loss() && reason != Reason::OutputFailed;
    // A source that cannot wait loses events while everything behind it waits for the output.
    let overrun = |reason| matches!(reason, Reason::RingFull | Reason::QueueFull);
    let lines = match output {
        Output::Console => vec![
            line(ledgers, &[Stage::Source], "the decoder", overrun),
            line(ledgers, &[Stage::Console], "stdout", left),
        ],
        Output::Collector => vec![line(
            ledgers,
            &[Stage::Queue, Stage::Export],
            "the Collector",
            left,
        )],
    };
    lines.into_iter().flatten().collect()
}

/// The line for a road of `stages` to `end`, if something was lost on it for one of these reasons.
fn line(
    ledgers: &Ledgers,
    stages: &[Stage],
    end: &str,
    is_loss: impl Fn(Reason) -> bool,
) -> Option<String> {
    let first = stages.first()?;
    let mut lost = 0;
    let mut reasons = Vec::new();
    for stage in stages {
        for (reason, count) in ledgers.total(*stage).dropped {
            if is_loss(reason) {
                lost += count;
                reasons.push(format!("{count} {}", reason.as_str()));
            }
        }
    }
    let received = ledgers.total(*first).received;
    let (first, reasons) = (first.as_str(), reasons.join(", "));
    (lost > 0).then(|| {
        format!("netflume: {lost} of {received} items did not get from {first} to {end}: {reasons}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_on_the_way_out_is_a_line_and_a_failure() {
        let ledgers = Ledgers::default();
        let ledger = ledgers.of("cilium");
        let outputs = [Output::Console, Output::Collector];
        for stage in [Stage::Console, Stage::Queue, Stage::Decode] {
            ledger.received(stage, 100);
        }
        ledger.dropped(Stage::Decode, Reason::Malformed, 5);
        ledger.dropped(Stage::Queue, Reason::NotExported, 5);
        ledger.dropped(Stage::Console, Reason::OutputFailed, 5);
        assert_eq!(report(&ledgers, &outputs), None);
        ledger.dropped(Stage::Queue, Reason::QueueFull, 7);
        ledger.dropped(Stage::Export, Reason::Rejected, 3);
        assert_eq!(report(&ledgers, &outputs[..1]), None);
        assert_eq!(report(&ledgers, &outputs), Some(ExitCode::FAILURE));
        assert_eq!(
            lines(&ledgers, Output::Collector),
            [
                "netflume: 10 of 100 items did not get from queue to the Collector: 7 queue_full, 3 rejected"
            ]
        );
        ledger.dropped(Stage::Console, Reason::QueueFull, 1);
        ledger.received(Stage::Source, 8);
        ledger.dropped(Stage::Source, Reason::QueueFull, 2);
        ledger.dropped(Stage::Source, Reason::Malformed, 2);
        assert_eq!(
            lines(&ledgers, Output::Console),
            [
                "netflume: 2 of 8 items did not get from source to the decoder: 2 queue_full",
                "netflume: 1 of 100 items did not get from console to stdout: 1 queue_full"
            ]
        );
    }
}
