//! `loadtest flood`: As many frames as the engine takes.

use loadtest::flood::race::Target;

use crate::{
    Ran,
    load::{self, LoadArguments},
};

pub(crate) fn run(arguments: &LoadArguments) -> Ran {
    load::race(arguments, "The flood", &[Target::Engine], None)
}
