//! `loadtest race`: Floors and flood in turn.

use loadtest::flood::race::Target;

use crate::{
    Ran,
    load::{self, LoadArguments},
};

pub(crate) fn run(arguments: &LoadArguments) -> Ran {
    load::race(arguments, &Target::ALL)
}
