//! What is expected where: which `[[known]]` apply to a plan.

use std::collections::BTreeMap;

use brim_device::Ratio;
use brim_trial::{FilesystemKind, Rate, Verdict, plan};
use semver::VersionReq;
use toml::Spanned;

use crate::check;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::params::{Params, Value, Values};
use crate::read::Reader;
use crate::schema;
use crate::sweep::Sweep;
use crate::written::{Place, Written};

/// One `[[known]]`.
#[derive(Debug)]
pub(crate) struct Known {
    filesystem: Option<FilesystemKind>,
    kernel: VersionReq,
    verdict: Verdict,
    rate: Option<Rate>,
    /// The values that each of these parameters may have; all others have their defaults.
    params: BTreeMap<String, Vec<Allowed>>,
}

/// One value, or a range.
#[derive(Debug)]
enum Allowed {
    Text(String),
    Sweep(Sweep),
}

impl Known {
    /// Reads one entry of the scenario file `document`.
    pub(crate) fn new(
        entry: &Spanned<schema::Table<schema::Known>>,
        params: &Params,
        document: &str,
    ) -> Checked<Self> {
        let rate = entry.get_ref().rate.as_ref().map(|rate| read_rate(rate, document)).transpose()?;
        let place = Place::scenario(entry.span());
        let entry: &schema::Known = entry.get_ref();
        let verdict = match (&entry.verdict, &entry.rate) {
            (Some(text), None) => verdict(text)?,
            (None, Some(_)) => Verdict::Reproduced,
            (Some(_), Some(rate)) => {
                let place = Place::scenario(rate.span());
                return Err(Objection::new(
                    place,
                    "`verdict` and `rate` both say what is expected",
                    "one of the two",
                )
                .help("a `rate` is the share of the trials that is `reproduced`: take `verdict` out"));
            }
            (None, None) => {
                return Err(Objection::new(place, "this `[[known]]` says nothing", "no verdict").help(
                    "add `verdict = \"reproduced\"` or `verdict = \"not-reproduced\"`; or, for what does not come each time, \
                     `rate = { at_least = \"2 %\", at_most = \"10 %\", why = \"…\" }`",
                ));
            }
        };
        Ok(Self {
            filesystem: entry.filesystem.as_ref().map(check::filesystem).transpose()?,
            kernel: entry.kernel.as_ref().map_or(Ok(VersionReq::STAR), kernel)?,
            verdict,
            rate,
            params: allowed(entry, params, document)?,
        })
    }

    /// Whether it says something about a plan on `kind` with `values`, where the defaults are `defaults`.
    pub(crate) fn applies(&self, kind: FilesystemKind, values: &Values, defaults: &Values) -> bool {
        let as_said = |name: &String, value: &Value| match self.params.get(name) {
            Some(allowed) => allowed.iter().any(|allowed| allowed.matches(value)),
            None => defaults.get(name).is_some_and(|default| value.equals(default)),
        };
        self.filesystem.is_none_or(|filesystem| filesystem == kind)
            && values.iter().all(|(name, value)| as_said(name, value))
    }

    /// The verdict.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// As a plan has it.
    pub(crate) fn to_plan(&self) -> plan::Known {
        plan::Known { kernel: self.kernel.clone(), verdict: self.verdict, rate: self.rate.clone() }
    }
}

/// A verdict by its name.
pub(crate) fn verdict(text: &schema::Text) -> Checked<Verdict> {
    let verdicts = [Verdict::Reproduced, Verdict::NotReproduced, Verdict::Inconclusive];
    let names = verdicts.map(|verdict| verdict.to_string());
    let options: Vec<(&str, Verdict)> = names.iter().map(String::as_str).zip(verdicts).collect();
    check::choose(text.get_ref(), Place::scenario(text.span()), "verdict", &options)
}

fn read_rate(rate: &Spanned<schema::Table<schema::Rate>>, document: &str) -> Checked<Rate> {
    // What is known of a scenario is the same whatever its parameters are.
    let values = Values::new();
    let mut reader = Reader::new(document, &values);
    let given: &schema::Rate = rate.get_ref();
    let at_least = fault::ratio(&given.at_least, "at_least", &mut reader)?;
    let at_most = fault::ratio(&given.at_most, "at_most", &mut reader)?;
    if at_least > at_most || at_most > Ratio::ONE {
        let place = Place::scenario(given.at_most.span());
        return Err(Objection::new(
            place,
            "no share of the trials is like that",
            "not from `at_least` to 100 %",
        )
        .help("write two shares, the smaller one first: `at_least = \"2 %\", at_most = \"10 %\"`"));
    }
    Ok(Rate { at_least, at_most, why: check::fixed(&given.why, "why")? })
}

impl Allowed {
    fn new(name: &str, default: &Value, written: &Written) -> Checked<Self> {
        match &default.quantity {
            Some(quantity) => Ok(Self::Sweep(Value::sweep(name, quantity, written)?)),
            None => Ok(Self::Text(written.text.clone())),
        }
    }

    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value.text == *text,
            Self::Sweep(sweep) => value.quantity.is_some_and(|quantity| sweep.contains(&quantity)),
        }
    }
}

fn allowed(
    entry: &schema::Known,
    params: &Params,
    document: &str,
) -> Checked<BTreeMap<String, Vec<Allowed>>> {
    let mut all = BTreeMap::new();
    for (key, values) in entry.params.iter().flatten() {
        let name = key.get_ref();
        let default = params.default(name, || Place::scenario(key.span()))?;
        let list = match values.get_ref() {
            schema::Values::One(_) => {
                vec![Allowed::new(name, default, &Written::scenario(values, document))?]
            }
            schema::Values::Several(list) => list
                .iter()
                .map(|value| Allowed::new(name, default, &Written::scenario(value, document)))
                .collect::<Checked<_>>()?,
        };
        if list.is_empty() {
            let place = Place::scenario(values.span());
            return Err(Objection::new(place, format!("no value of `{name}` is named"), "an empty list")
                .help("name at least one value, or take the parameter out: it has its default then"));
        }
        all.insert(name.clone(), list);
    }
    Ok(all)
}

/// A requirement on a kernel.
pub(crate) fn kernel(text: &schema::Text) -> Checked<VersionReq> {
    VersionReq::parse(text.get_ref()).map_err(|error| {
        Objection::new(
            Place::scenario(text.span()),
            format!("`{}` is not a requirement on a kernel: {error}", text.get_ref()),
            "not a version requirement",
        )
        .help("write `>= 6.13`, `>= 5.15, < 6.1`, `=6.12.40` or `*`")
    })
}
