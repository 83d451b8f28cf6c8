//! The tables, in Markdown, and the same as JSON.

use serde_json::{Value, json};

use crate::commands::{self, Whole};
use crate::operations::{Figure, Operation, megabytes};
use crate::place::Place;
use crate::programs::Named;
use crate::stats::median;

/// From so many exits a turn on, they are shown by turn.
const BY_TURN: f64 = 0.01;

/// All that was measured.
pub struct Report<'a> {
    /// Where; the figures are in this order.
    pub places: &'a [Place],
    /// Operations.
    pub operations: &'a [Operation],
    /// Whole commands.
    pub commands: &'a [Whole],
    /// Figures of programs.
    pub programs: &'a [Named],
    /// MiB of an idle container, by place.
    pub idle: &'a [Option<f64>],
}

impl Report<'_> {
    /// The tables.
    pub fn tables(&self) -> String {
        let mut text = String::from(
            "Nanoseconds an operation, or MB/s; medians. `×`: times as long as natively. `exits`: how often a loop left the \
             sandbox for the host side (kvm: KVM_RUN returned; systrap: the broker was woken), in all or, where it is once in \
             a hundred turns or more, by turn.\n\n",
        );
        if !self.operations.is_empty() {
            text += &table(self.operation_rows());
        }
        if !self.commands.is_empty() {
            text += "\nMilliseconds a whole command; medians.\n\n";
            text += &table(self.command_rows());
        }
        if !self.programs.is_empty() {
            text += "\nWhat programs of the host's root find themselves; medians.\n\n";
            text += &table(self.program_rows());
        }
        if self.idle.iter().any(Option::is_some) {
            text += "\nMiB that MemAvailable falls by an idle container.\n\n";
            text += &table(self.idle_rows());
        }
        text
    }

    fn native(&self) -> Option<usize> {
        self.places.iter().position(|place| place.name == "native")
    }

    fn operation_rows(&self) -> Vec<Vec<String>> {
        let mut head = vec!["operation".to_string()];
        for place in self.places.iter().filter(|place| place.operations) {
            head.push(place.name.into());
            if place.name != "native" {
                head.push("×".into());
            }
            if place.counts {
                head.push("exits".into());
            }
        }
        let mut rows = vec![head];
        for operation in self.operations {
            let figure = |index: usize| operation.figures.get(index).and_then(Option::as_ref);
            let native = self.native().and_then(figure).and_then(Figure::time);
            let mut row = vec![operation.name.to_string()];
            for (index, place) in self.places.iter().enumerate().filter(|(_, place)| place.operations) {
                let figure = figure(index);
                row.push(match figure {
                    Some(Figure::TimedOut) => "timed out".into(),
                    figure => match figure.and_then(Figure::time) {
                        Some(time) if operation.bytes > 0 => {
                            format!("{} MB/s", number(megabytes(operation.bytes, time)))
                        }
                        Some(time) => number(time),
                        None => "–".into(),
                    },
                });
                if place.name != "native" {
                    row.push(ratio(figure.and_then(Figure::time), native));
                }
                if place.counts {
                    row.push(figure.and_then(Figure::exits).map_or("–".into(), exits));
                }
            }
            rows.push(row);
        }
        rows
    }

    fn command_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![self.head("command")];
        for command in self.commands {
            let mut row = vec![command.name.to_string()];
            row.extend(command.figures.iter().map(|figure| match figure {
                commands::Figure::Measured(samples) => {
                    median(samples).map_or("–".into(), |ms| format!("{ms:.1}"))
                }
                commands::Figure::Failed => "–".into(),
                commands::Figure::TimedOut => "timed out".into(),
            }));
            rows.push(row);
        }
        rows
    }

    fn head(&self, first: &str) -> Vec<String> {
        std::iter::once(first).chain(self.places.iter().map(|place| place.name)).map(String::from).collect()
    }

    fn program_rows(&self) -> Vec<Vec<String>> {
        let mut head = self.head("program");
        head.insert(1, "unit".into());
        let rows = self.programs.iter().map(|figure| {
            let values = figure.values.iter().map(|values| median(values).map_or("–".into(), number));
            [figure.name.clone(), figure.unit.clone()].into_iter().chain(values).collect()
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn idle_rows(&self) -> Vec<Vec<String>> {
        let row = self.idle.iter().map(|mib| mib.map_or("–".into(), |mib| format!("{mib:.2}")));
        vec![self.head("container"), std::iter::once("that sleeps".to_string()).chain(row).collect()]
    }

    /// JSON: for each operation and command its samples by place, in nanoseconds and milliseconds.
    pub fn json(&self) -> String {
        let operations: Vec<Value> = self
            .operations
            .iter()
            .map(|operation| {
                let places: serde_json::Map<String, Value> = self
                    .places
                    .iter()
                    .zip(&operation.figures)
                    .filter_map(|(place, figure)| {
                        let value = match figure.as_ref()? {
                            Figure::Measured { samples, turns, exits } => json!({
                                "median_ns": median(samples), "samples_ns": samples, "turns": turns, "exits": exits,
                            }),
                            Figure::Failed(reason) => json!({"failed": reason}),
                            Figure::TimedOut => json!({"failed": "timed out"}),
                        };
                        Some((place.name.to_string(), value))
                    })
                    .collect();
                json!({"name": operation.name, "bytes": operation.bytes, "places": places})
            })
            .collect();
        let commands: Vec<Value> = self
            .commands
            .iter()
            .map(|command| {
                let places: serde_json::Map<String, Value> = self
                    .places
                    .iter()
                    .zip(&command.figures)
                    .map(|(place, figure)| {
                        let value = match figure {
                            commands::Figure::Measured(samples) => {
                                json!({"median_ms": median(samples), "samples_ms": samples})
                            }
                            commands::Figure::Failed => json!({"failed": "it failed"}),
                            commands::Figure::TimedOut => json!({"failed": "timed out"}),
                        };
                        (place.name.to_string(), value)
                    })
                    .collect();
                json!({"name": command.name, "places": places})
            })
            .collect();
        let programs: Vec<Value> = self
            .programs
            .iter()
            .map(|figure| {
                let places: serde_json::Map<String, Value> = self
                    .places
                    .iter()
                    .zip(&figure.values)
                    .map(|(place, values)| {
                        (place.name.to_string(), json!({"median": median(values), "samples": values}))
                    })
                    .collect();
                json!({"name": figure.name, "unit": figure.unit, "places": places})
            })
            .collect();
        let idle: serde_json::Map<String, Value> = self
            .places
            .iter()
            .zip(self.idle)
            .map(|(place, mib)| (place.name.to_string(), json!(mib)))
            .collect();
        let all = json!({
            "operations": operations, "commands": commands, "programs": programs, "idle_mib": idle,
        });
        format!("{all:#}\n")
    }
}

fn ratio(time: Option<f64>, native: Option<f64>) -> String {
    match (time, native) {
        (Some(time), Some(native)) if native > 0.0 => format!("{:.2}", time / native),
        _ => "–".into(),
    }
}

fn exits((exits, turns): (f64, u64)) -> String {
    let by_turn = exits / turns as f64;
    if by_turn >= BY_TURN && turns > 1 { format!("{by_turn:.2} a turn") } else { format!("{exits:.0}") }
}

/// A figure with three digits that count, at least, and commas.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A Markdown table, its columns padded; the first row is the head.
fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") };
            text += &format!("| {cell} ");
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                text += &if column == 0 { format!("|-{dashes}-") } else { format!("|-{dashes}:") };
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(number(1.714), "1.71");
        assert_eq!(number(479.2), "479");
        assert_eq!(number(933063.0), "933,063");
        assert_eq!(exits((0.0, 1000)), "0");
        assert_eq!(exits((2.0, 1000)), "2");
        assert_eq!(exits((2000.0, 1000)), "2.00 a turn");
        assert_eq!(ratio(Some(3.0), Some(2.0)), "1.50");
        assert_eq!(ratio(None, Some(2.0)), "–");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["name".into(), "1".into()]];
        assert_eq!(table(rows), "| a    | long |\n|------|-----:|\n| name |    1 |\n");
    }
}
