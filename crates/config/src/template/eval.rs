//! What a template comes to.

use super::{Expr, Field, Function, Part};

/// Widest a value is made by `printf`.
const MAX_WIDTH: usize = 256;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Val<'v> {
    Text(std::borrow::Cow<'v, str>),
    /// A number; a UID that is not known yet is a word that stands for it.
    Number(std::borrow::Cow<'v, str>),
    Truth(bool),
    List(Vec<String>),
}

impl Val<'_> {
    /// As Go prints it.
    fn show(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) => text.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::List(items) => format!("[{}]", items.join(" ")),
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => number != "0",
            Self::Truth(truth) => *truth,
            Self::List(items) => !items.is_empty(),
        }
    }
}

type Values<'f, 'v> = &'f dyn Fn(Field) -> Val<'v>;

pub(super) fn parts<'v>(parts: &[Part], value: Values<'_, 'v>, out: &mut String) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Print(expr) => out.push_str(&eval(expr, value)?.show()),
            Part::If {
                condition,
                then,
                otherwise,
            } => {
                let branch = if eval(condition, value)?.is_true() {
                    then
                } else {
                    otherwise
                };
                self::parts(branch, value, out)?;
            }
        }
    }
    Ok(())
}

fn eval<'v>(expr: &Expr, value: Values<'_, 'v>) -> Result<Val<'v>, String> {
    Ok(match expr {
        Expr::Field(field) => value(*field),
        Expr::Text(text) => Val::Text(text.clone().into()),
        Expr::Int(number) => Val::Number(number.to_string().into()),
        Expr::Bool(truth) => Val::Truth(*truth),
        Expr::Call(function, arguments) => {
            let all = arguments
                .iter()
                .map(|a| eval(a, value))
                .collect::<Result<Vec<_>, _>>()?;
            apply(*function, &all)?
        }
    })
}

fn apply<'v>(function: Function, arguments: &[Val<'v>]) -> Result<Val<'v>, String> {
    match (function, arguments) {
        (Function::Printf, [Val::Text(format), values @ ..]) => Ok(Val::Text(printf(format, values)?.into())),
        (Function::Printf, _) => Err("printf wants a text with the format first".into()),
        (Function::Len, [Val::Text(text)]) => Ok(Val::Number(text.len().to_string().into())),
        (Function::Len, [Val::List(items)]) => Ok(Val::Number(items.len().to_string().into())),
        (Function::Len, _) => Err("len wants one text or list".into()),
        (Function::Index, [Val::List(items), Val::Number(number)]) => {
            let item = number.parse::<usize>().ok().and_then(|n| items.get(n));
            let why = || format!("index {number} of a list of only {}", items.len());
            Ok(Val::Text(item.cloned().ok_or_else(why)?.into()))
        }
        (Function::Index, _) => Err("index wants a list (.Nodes) and a number".into()),
        (Function::Eq, [first, others @ ..]) if !others.is_empty() => {
            let mut any = false;
            for other in others {
                any |= same(first, other)?;
            }
            Ok(Val::Truth(any))
        }
        (Function::Eq, _) => Err("eq wants two values or more".into()),
        (Function::Ne, [one, other]) => Ok(Val::Truth(!same(one, other)?)),
        (Function::Ne, _) => Err("ne wants two values".into()),
    }
}

fn same(one: &Val<'_>, other: &Val<'_>) -> Result<bool, String> {
    match (one, other) {
        (Val::Text(a), Val::Text(b)) | (Val::Number(a), Val::Number(b)) => Ok(a == b),
        (Val::Truth(a), Val::Truth(b)) => Ok(a == b),
        (Val::List(_), _) | (_, Val::List(_)) => Err("lists cannot be compared".into()),
        _ => Err(format!(
            "{} and {} are of different kinds",
            one.show(),
            other.show()
        )),
    }
}

fn printf(format: &str, values: &[Val<'_>]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut width) = (false, false, 0_usize);
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0')) {
            left |= flag == '-';
            zero |= flag == '0';
        }
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            width = width
                .saturating_mul(10)
                .saturating_add(digit.to_digit(10).map_or(0, |d| d as usize));
        }
        if width > MAX_WIDTH {
            return Err(format!(
                "printf: a width of more than {MAX_WIDTH} is not supported"
            ));
        }
        let verb = chars.next().ok_or("printf: the format ends in %")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or("printf: there are too few values for the format")?;
        let text = match (verb, value) {
            ('v', any) => any.show(),
            ('s', Val::Text(text)) => text.to_string(),
            ('q', Val::Text(text)) => format!("{text:?}"),
            ('d', Val::Number(number)) => number.to_string(),
            ('t', Val::Truth(truth)) => truth.to_string(),
            ('s' | 'q' | 'd' | 't', other) => {
                return Err(format!("printf: %{verb} does not fit {}", other.show()));
            }
            (other, _) => return Err(format!("printf: %{other} is not supported")),
        };
        out.push_str(&match (left, zero) {
            (true, _) => format!("{text:<width$}"),
            (false, true) => format!("{text:0>width$}"),
            (false, false) => format!("{text:>width$}"),
        });
    }
    if values.next().is_some() {
        return Err("printf: there are too many values for the format".into());
    }
    Ok(out)
}
