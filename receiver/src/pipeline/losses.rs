//! What was lost on the way to an output, on standard error and in the exit status.

use std::process::ExitCode;

use netflume_core::ledger::{Ledger, Reason, Stage};

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
pub(super) fn report(ledger: &Ledger, outputs: &[Output]) -> Option<ExitCode> {
    let lines: Vec<_> = outputs
        .iter()
        .flat_map(|output| lines(ledger, *output))
        .collect();
    lines.iter().for_each(|line| print_line(line));
    (!lines.is_empty()).then_some(ExitCode::FAILURE)
}

fn lines(ledger: &Ledger, output: Output) -> Vec<String> {
    // A signal that is not exported is not lost, and an output that broke has an error of its own.
    let left = |reason| !matches!(reason, Reason::Filtered | Reason::OutputFailed);
    // A source that cannot wait loses events while everything behind it waits for the output.
    let overrun = |reason| matches!(reason, Reason::RingFull | Reason::QueueFull);
    let lines = match output {
        Output::Console => vec![
            line(ledger, &[Stage::Kernel], "the decoder", overrun),
            line(ledger, &[Stage::Cilium], "the decoder", overrun),
            line(ledger, &[Stage::Console], "stdout", left),
        ],
        Output::Collector => vec![line(
            ledger,
            &[Stage::Queue, Stage::Export],
            "the Collector",
            left,
        )],
    };
    lines.into_iter().flatten().collect()
}

/// The line for a road of `stages` to `end`, if something was lost on it for one of these reasons.
fn line(
    ledger: &Ledger,
    stages: &[Stage],
    end: &str,
    is_loss: impl Fn(Reason) -> bool,
) -> Option<String> {
    let first = stages.first()?;
    let mut lost = 0;
    let mut reasons = Vec::new();
    for stage in stages {
        for (reason, count) in ledger.entry(*stage).dropped {
            if is_loss(reason) {
                lost += count;
                reasons.push(format!("{count} {}", reason.as_str()));
            }
        }
    }
    let received = ledger.entry(*first).received;
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
        let ledger = Ledger::default();
        let outputs = [Output::Console, Output::Collector];
        for stage in [Stage::Console, Stage::Queue, Stage::Decode] {
            ledger.received(stage, 100);
        }
        ledger.dropped(Stage::Decode, Reason::Malformed, 5);
        ledger.dropped(Stage::Queue, Reason::Filtered, 5);
        ledger.dropped(Stage::Console, Reason::OutputFailed, 5);
        assert_eq!(report(&ledger, &outputs), None);
        ledger.dropped(Stage::Queue, Reason::QueueFull, 7);
        ledger.dropped(Stage::Export, Reason::Rejected, 3);
        assert_eq!(report(&ledger, &outputs[..1]), None);
        assert_eq!(report(&ledger, &outputs), Some(ExitCode::FAILURE));
        assert_eq!(
            lines(&ledger, Output::Collector),
            [
                "netflume: 10 of 100 items did not get from queue to the Collector: 7 queue_full, 3 rejected"
            ]
        );
        ledger.dropped(Stage::Console, Reason::QueueFull, 1);
        ledger.received(Stage::Cilium, 8);
        ledger.dropped(Stage::Cilium, Reason::QueueFull, 2);
        ledger.dropped(Stage::Cilium, Reason::Malformed, 2);
        assert_eq!(
            lines(&ledger, Output::Console),
            [
                "netflume: 2 of 8 items did not get from cilium to the decoder: 2 queue_full",
                "netflume: 1 of 100 items did not get from console to stdout: 1 queue_full"
            ]
        );
    }
}
