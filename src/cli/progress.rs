//! How far a long command is: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Read},
    rc::Rc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EACH: Duration = Duration::from_secs(5);

/// Clones tell the same story.
#[derive(Clone)]
pub(super) struct Told {
    bar: ProgressBar,
    noun: &'static str,
    lines: Option<Rc<Cell<Instant>>>,
}

impl Told {
    pub(super) fn of_bytes(total: u64) -> Told {
        Told::new(total, "{bar:30} {bytes}/{total_bytes} {eta} {msg}")
    }

    /// Of things that are counted.
    pub(super) fn of(total: u64, noun: &'static str) -> Told {
        let told = Told::new(total, "{bar:30} {pos}/{len} {msg} {eta}");
        told.bar.set_message(noun);
        Told { noun, ..told }
    }

    fn new(total: u64, template: &str) -> Told {
        if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(template).expect("a valid template");
            return Told { bar: ProgressBar::new(total).with_style(style), noun: "", lines: None };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Told { bar, noun: "", lines: Some(Rc::new(Cell::new(Instant::now()))) }
    }

    /// What is read counts.
    pub(super) fn reading<R: Read>(&self, file: R) -> impl Read + use<R> {
        self.bar.wrap_read(file)
    }

    pub(super) fn rows(&self, rows: u64, refused: u64) {
        self.bar.set_message(format!("{rows} rows, {refused} refused"));
        let share = self.bar.position() * 100 / self.bar.length().unwrap_or(0).max(1);
        self.line(|| format!("{share} % read, {rows} rows, {refused} refused"));
    }

    /// When the total is known only later, or grows.
    pub(super) fn of_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    pub(super) fn done(&self, done: u64) {
        self.bar.set_position(done);
        self.line(|| format!("{done} of {} {}", self.bar.length().unwrap_or(0), self.noun));
    }

    /// Where there is no terminal, and not too often.
    fn line(&self, text: impl FnOnce() -> String) {
        if let Some(last) = &self.lines
            && last.get().elapsed() >= LINE_EACH
        {
            last.set(Instant::now());
            eprintln!("{}", text());
        }
    }

    /// Something that a person should know now.
    pub(super) fn note(&self, text: &str) {
        if self.lines.is_some() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
