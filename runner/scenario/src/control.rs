//! `[control]`: the smallest change that makes what a scenario shows go away, or a promise break.

use brim_trial::{Control, Plan, Verdict};

use semver::VersionReq;

use crate::check;
use crate::error::{Checked, Objection};
use crate::known;
use crate::params::{Params, Values};
use crate::schema::{self, File, Text};
use crate::suggest;
use crate::written::Place;

/// Which of a scenario's two plans is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The scenario as it is.
    Main,
    /// Its control.
    Control,
}

/// What is fixed of a control, whatever the parameters are.
#[derive(Debug)]
pub(crate) struct Changes {
    change: String,
    params: Values,
    without_fault: Vec<Text>,
    without_step: Vec<Text>,
    verdict: Verdict,
    kernel: VersionReq,
}

impl Changes {
    /// Reads the `[control]` of `file`, where `usual` is what is known of the scenario with its defaults.
    pub(crate) fn new(
        file: &File,
        params: &Params,
        usual: &[Verdict],
        document: &str,
    ) -> Checked<Option<Self>> {
        let Some(control) = &file.control else {
            return no_control_steps(file).map(|()| None);
        };
        let given = control.get_ref();
        let place = || Place::scenario(control.span());
        let verdict = match (&given.verdict, usual) {
            (Some(verdict), _) => known::verdict(verdict)?,
            (None, []) => {
                return Err(Objection::new(place(), "nothing says what the control is to come to", "no verdict")
                    .help("it is the opposite of what is known with the default parameters: add a `[[known]]`, or `verdict = \"not-reproduced\"` here"));
            }
            // Where the bug is known anywhere, the control is to make it go away; else it breaks a promise.
            (None, usual) if usual.contains(&Verdict::Reproduced) => Verdict::NotReproduced,
            (None, _) => Verdict::Reproduced,
        };
        if verdict == Verdict::Inconclusive {
            let span = given.verdict.as_ref().map_or(control.span(), Text::span);
            return Err(Objection::new(
                Place::scenario(span),
                "a control that says nothing is none",
                "no flip",
            )
            .help("write `reproduced` or `not-reproduced`"));
        }
        let values = params.replacements(&given.params, document)?;
        for (key, value) in &given.params {
            let default = params.default(key.get_ref(), || Place::scenario(key.span()))?;
            if values.get(key.get_ref()).is_some_and(|new| new.equals(default)) {
                let message = format!("the control leaves `{}` as it is", key.get_ref());
                return Err(Objection::new(Place::scenario(value.span()), message, "the default")
                    .help("give it another value, or take it out"));
            }
        }
        let changes = Self {
            change: check::fixed(&given.change, "change")?,
            params: values,
            without_fault: given.without_fault.clone(),
            without_step: given.without_step.clone(),
            verdict,
            kernel: given.kernel.as_ref().map_or(Ok(VersionReq::STAR), known::kernel)?,
        };
        if changes.words(file).is_empty() {
            return Err(Objection::new(place(), "the control changes nothing", "no change").help(
                "write at least one of `params`, `without_fault`, `without_step`, `mkfs` and `mount`, a `[[control.fault]]`, or a step with \
                 `only = \"control\"`",
            ));
        }
        Ok(Some(changes))
    }

    /// The values of its parameters, where these are the scenario's.
    pub(crate) fn values(&self, scenario: &Values) -> Values {
        let mut values = scenario.clone();
        values.extend(self.params.iter().map(|(name, value)| (name.clone(), value.clone())));
        values
    }

    /// What a plan of the scenario says of it.
    pub(crate) fn to_plan(&self, file: &File) -> Control {
        Control {
            change: self.change.clone(),
            changes: self.words(file),
            verdict: self.verdict,
            kernel: self.kernel.clone(),
        }
    }

    /// Takes out of the plan of the control what it goes without. `known` says whether anything is known of the scenario.
    pub(crate) fn apply(&self, file: &File, plan: &mut Plan, known: bool) -> Checked<()> {
        for name in &self.without_fault {
            let faults: Vec<&str> = plan.faults.iter().map(|fault| fault.row.name.as_str()).collect();
            let help = if faults.is_empty() {
                "this scenario has none".to_owned()
            } else {
                suggest::help(name.get_ref(), &faults, "faults of this scenario")
            };
            if !plan.remove_fault(name.get_ref()) {
                return Err(absent("fault", name, help));
            }
        }
        for name in &self.without_step {
            let mut steps: Vec<&str> = Vec::new();
            for step in plan.phases.iter().flat_map(|phase| &phase.steps) {
                if !steps.contains(&step.name.as_str()) {
                    steps.push(&step.name);
                }
            }
            let help = suggest::help(
                name.get_ref(),
                &steps,
                "steps of this scenario (by their `name`, else their verb)",
            );
            if !plan.remove_step(name.get_ref()) {
                return Err(absent("step", name, help));
            }
        }
        (plan.control, plan.changed) = (None, Some(self.to_plan(file)));
        plan.known = if known {
            vec![brim_trial::Known { kernel: self.kernel.clone(), verdict: self.verdict, rate: None }]
        } else {
            Vec::new()
        };
        Ok(())
    }

    fn words(&self, file: &File) -> Vec<String> {
        let mut words: Vec<String> =
            self.params.iter().map(|(name, value)| format!("{name} = {}", value.text)).collect();
        let named = |what: &str, name: &Text| format!("without the {what} \"{}\"", name.get_ref());
        words.extend(self.without_fault.iter().map(|name| named("fault", name)));
        words.extend(self.without_step.iter().map(|name| named("step", name)));
        let Some(control) = &file.control else { return words };
        let options = |what: &str, list: &Option<Vec<Text>>| {
            list.as_ref().map(|list| {
                let list: Vec<&str> = list.iter().map(|word| word.get_ref().as_str()).collect();
                if list.is_empty() {
                    format!("no options of {what}")
                } else {
                    format!("{what} `{}`", list.join(" "))
                }
            })
        };
        words.extend(options("mkfs", &control.get_ref().mkfs));
        words.extend(options("mount", &control.get_ref().mount));
        let faults = control.get_ref().faults.iter();
        words.extend(faults.map(|fault| format!("with the fault \"{}\"", fault.name.get_ref())));
        let steps = file.phases.iter().flat_map(|phase| phase.step.get_ref());
        let steps = steps.filter(|step| step.get_ref().only.is_some());
        words.extend(steps.map(|step| format!("with {}", schema::step_words(step.get_ref()))));
        words
    }
}

/// Nothing is for a control that is not there.
fn no_control_steps(file: &File) -> Checked<()> {
    let mut steps = file.phases.iter().flat_map(|phase| phase.step.get_ref());
    match steps.find_map(|step| step.get_ref().only.as_ref()) {
        None => Ok(()),
        Some(only) => {
            Err(Objection::new(Place::scenario(only.span()), "this scenario has no control", "never done")
                .help("a step of the control alone belongs to a `[control]` with its `change`"))
        }
    }
}

fn absent(what: &str, name: &Text, help: String) -> Objection {
    let message = format!("no {what} is called `{}`", name.get_ref());
    Objection::new(Place::scenario(name.span()), message, format!("names no {what}")).help(help)
}
