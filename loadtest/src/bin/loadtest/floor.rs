//! `loadtest floor`: What the wire itself takes: a bare sink in the engine's place.

use loadtest::flood::race::Target;

use crate::{
    Ran,
    load::{self, LoadArguments},
};

pub(crate) fn run(arguments: &LoadArguments) -> Ran {
    load::race(arguments, "The floor", &[Target::Floor, Target::SameBytes], None)
}
