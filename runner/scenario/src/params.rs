//! Parameters: their defaults, what a filesystem overrides, and what `--set` makes of them.

use std::collections::BTreeMap;

use brim_trial::FilesystemKind;

use crate::check;
use crate::error::{Checked, Objection};
use crate::quantity::Quantity;
use crate::scenario::Settings;
use crate::schema::{File, ParamTable};
use crate::suggest;
use crate::sweep::Sweep;
use crate::token;
use crate::written::{Place, Written};

/// More plans than a campaign can want; a slip of the pen in a range should not fill the memory.
const PLAN_COUNT_MAX: u64 = 100_000;

/// A parameter's value. One whose default is a quantity stays a quantity of that dimension.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) written: Written,
    /// What it is, if it is a plain quantity.
    pub(crate) quantity: Option<Quantity>,
    /// As text, normalised: `66 blocks`.
    pub(crate) text: String,
}

/// Every parameter of a plan and its value.
pub(crate) type Values = BTreeMap<String, Value>;

/// The parameters of a scenario.
#[derive(Debug)]
pub(crate) struct Params {
    defaults: Values,
    keys: BTreeMap<String, Place>,
    overrides: BTreeMap<FilesystemKind, Values>,
}

/// The values that one `--set` gives.
enum Axis {
    One(Value),
    Many(Sweep, Written),
}

impl Value {
    fn new(written: Written) -> Checked<Self> {
        if let Some(at) = written.text.find("${") {
            return Err(Objection::new(
                written.at(&(at..written.text.len())),
                "a parameter's value reads another parameter",
                "not possible here",
            )
            .help("write the value itself; `${…}` and arithmetic belong where the parameter is used"));
        }
        Ok(match Quantity::parse(&written) {
            Ok(quantity) => Self::of_quantity(written, quantity),
            Err(_) => Self { text: written.text.clone(), quantity: None, written },
        })
    }

    fn of_quantity(written: Written, quantity: Quantity) -> Self {
        Self { text: quantity.to_string(), quantity: Some(quantity), written }
    }

    /// A value that stands for `self`, the default of the parameter `name`.
    fn replaced_by(&self, name: &str, written: Written) -> Checked<Self> {
        let Some(quantity) = self.quantity else {
            return Ok(Self { quantity: None, text: written.text.clone(), ..Self::new(written)? });
        };
        if written.text.trim().is_empty() {
            return Err(Objection::new(
                written.whole(),
                format!("`{name}` is set to nothing"),
                "a value is missing",
            )
            .help(format!(
                "{}; the default of `{name}` is `{quantity}`",
                quantity.unit.dimension.example()
            )));
        }
        let new = Quantity::parse(&written)?;
        same_dimension(name, &quantity, &new, &written)?;
        Ok(Self::of_quantity(written, new))
    }

    /// Reads a range or a single value for `self`, the default of the parameter `name`, a quantity.
    pub(crate) fn sweep(name: &str, default: &Quantity, written: &Written) -> Checked<Sweep> {
        let sweep = Sweep::parse(written)?;
        same_dimension(name, default, &sweep.first, written)?;
        Ok(sweep)
    }

    /// Whether both mean the same: 66 blocks and 264 KiB do.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (&self.quantity, &other.quantity) {
            (Some(one), Some(two)) => one.value == two.value && one.unit.dimension == two.unit.dimension,
            _ => self.text == other.text,
        }
    }
}

impl Params {
    /// The parameters of `file`, whose text is `document`.
    pub(crate) fn new(file: &File, document: &str) -> Checked<Self> {
        let mut params = Self { defaults: Values::new(), keys: BTreeMap::new(), overrides: BTreeMap::new() };
        for (key, value) in &file.params {
            let name = key.get_ref();
            let place = Place::scenario(key.span());
            check_name(name, &place)?;
            params.defaults.insert(name.clone(), Value::new(Written::scenario(value, document))?);
            params.keys.insert(name.clone(), place);
        }
        for entry in &file.overrides {
            let kind = check::filesystem(&entry.filesystem)?;
            let values = params.replacements(&entry.params, document)?;
            if params.overrides.insert(kind, values).is_some() {
                let place = Place::scenario(entry.filesystem.span());
                return Err(Objection::new(
                    place,
                    format!("{kind} has two `[[override]]`"),
                    "the second one",
                )
                .help("put the parameters of both into one"));
            }
        }
        Ok(params)
    }

    /// The values in `table`, each for a parameter of the scenario.
    pub(crate) fn replacements(&self, table: &ParamTable, document: &str) -> Checked<Values> {
        let mut values = Values::new();
        for (key, value) in table {
            let default = self.default(key.get_ref(), || Place::scenario(key.span()))?;
            let value = default.replaced_by(key.get_ref(), Written::scenario(value, document))?;
            values.insert(key.get_ref().clone(), value);
        }
        Ok(values)
    }

    /// The default of the parameter `name`, which somebody names at `place`.
    pub(crate) fn default(&self, name: &str, place: impl Fn() -> Place) -> Checked<&Value> {
        self.defaults.get(name).ok_or_else(|| undefined(name, place(), &self.defaults))
    }

    /// The defaults as `params` has them, before any override.
    pub(crate) fn defaults(&self) -> &Values {
        &self.defaults
    }

    /// The defaults on a filesystem.
    pub(crate) fn defaults_on(&self, kind: FilesystemKind) -> Values {
        let mut values = self.defaults.clone();
        values.extend(
            self.overrides
                .get(&kind)
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        values
    }

    /// Nothing is written down that nobody reads.
    pub(crate) fn all_used(&self, used: &std::collections::BTreeSet<String>) -> Checked<()> {
        match self.keys.iter().find(|(name, _)| !used.contains(*name)) {
            None => Ok(()),
            Some((name, place)) => Err(Objection::new(
                place.clone(),
                format!("nothing reads the parameter `{name}`"),
                "no effect",
            )
            .help(format!("write `${{{name}}}` where it is meant, or take it out"))),
        }
    }

    /// Calls `each` with every combination of values that `settings` asks for on `kind`; the last range varies fastest.
    pub(crate) fn each(
        &self,
        kind: FilesystemKind,
        settings: &Settings,
        mut each: impl FnMut(&Values) -> Checked<()>,
    ) -> Checked<()> {
        let axes = self.axes(settings)?;
        let count = plan_count(&axes)?;
        let mut values = self.defaults_on(kind);
        for index in 0..count {
            let mut rest = index;
            for (name, axis) in axes.iter().rev() {
                let length = axis.count().unwrap_or(u64::MAX);
                let value = axis.value(rest % length);
                rest /= length;
                values.insert(name.clone(), value);
            }
            each(&values)?;
        }
        Ok(())
    }

    fn axes(&self, settings: &Settings) -> Checked<Vec<(String, Axis)>> {
        let mut axes: Vec<(String, Axis)> = Vec::new();
        for (index, (key, value)) in settings.set.iter().enumerate() {
            let written = Written::setting(index, key, value);
            let at_key = || Place { span: 0..key.len(), ..written.whole() };
            let default = self.default(key, at_key)?;
            if axes.iter().any(|(name, _)| name == key) {
                return Err(Objection::new(at_key(), format!("`{key}` is set twice"), "set before")
                    .help(format!("give one `--set {key}=…`; a range takes several values: `--set {key}='60..140 blocks'`")));
            }
            let values = match &default.quantity {
                Some(quantity) if value.contains("..") => {
                    Axis::Many(Value::sweep(key, quantity, &written)?, written)
                }
                _ => Axis::One(default.replaced_by(key, written)?),
            };
            axes.push((key.clone(), values));
        }
        Ok(axes)
    }
}

impl Axis {
    fn count(&self) -> Option<u64> {
        match self {
            Self::One(_) => Some(1),
            Self::Many(sweep, _) => sweep.count(),
        }
    }

    fn value(&self, index: u64) -> Value {
        match self {
            Self::One(value) => value.clone(),
            Self::Many(sweep, written) => Value::of_quantity(written.clone(), sweep.value(index)),
        }
    }
}

fn plan_count(axes: &[(String, Axis)]) -> Checked<u64> {
    let mut count: u64 = 1;
    for (_, axis) in axes {
        let product = axis.count().and_then(|length| count.checked_mul(length));
        match (product, axis) {
            (Some(product), _) if product <= PLAN_COUNT_MAX => count = product,
            (_, Axis::One(_)) => {}
            (product, Axis::Many(_, written)) => {
                let many = product.map_or_else(|| "more than 2^64".to_owned(), |product| product.to_string());
                return Err(Objection::new(
                    written.whole(),
                    format!("{many} plans are more than {PLAN_COUNT_MAX}"),
                    "too many values",
                )
                .help("narrow the range, or set one parameter at a time"));
            }
        }
    }
    Ok(count)
}

/// The objection to a name that is not a parameter.
pub(crate) fn undefined(name: &str, place: Place, values: &Values) -> Objection {
    let names: Vec<&str> = values.keys().map(String::as_str).collect();
    let help = if names.is_empty() {
        "this scenario has no parameters; they are defined at its top: `params = { free = \"66 blocks\" }`"
            .to_owned()
    } else {
        suggest::help(name, &names, "defined")
    };
    Objection::new(place, format!("the parameter `{name}` is not defined"), "no such parameter").help(help)
}

fn same_dimension(name: &str, default: &Quantity, new: &Quantity, written: &Written) -> Checked<()> {
    let (old, dimension) = (default.unit.dimension, new.unit.dimension);
    if old == dimension {
        return Ok(());
    }
    Err(Objection::new(
        written.whole(),
        format!("`{name}` is {}, but `{}` is {}", old.name(), written.text, dimension.name()),
        format!("not {}", old.name()),
    )
    .help(format!("{}; the default of `{name}` is `{default}`", old.example())))
}

fn check_name(name: &str, place: &Place) -> Checked<()> {
    let counts = match name {
        "i" => "the rounds of a phase",
        "copy" => "the copies of a worker",
        _ => "",
    };
    if !counts.is_empty() {
        return Err(Objection::new(place.clone(), format!("`{name}` cannot be a parameter"), "taken")
            .help(format!("`${{{name}}}` counts {counts}, from 0; use a longer name")));
    }
    if name.is_empty() || !name.chars().all(token::is_name) {
        return Err(Objection::new(
            place.clone(),
            format!("`{name}` cannot be a parameter's name"),
            "not a name",
        )
        .help("a name is made of letters, digits, `_` and `-`"));
    }
    Ok(())
}
