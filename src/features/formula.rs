//! Formulas over named numbers, written as an SQL expression: `heart_rate / systolic_bp`,
//! `CASE WHEN platelets < 20 THEN 4 WHEN platelets < 150 THEN 1 ELSE 0 END`.
//!
//! Numbers are f64 and division is never whole. Missing is SQL's NULL, held as NaN: arithmetic
//! and comparison with it are missing, `AND` and `OR` are three-valued, a condition that is
//! missing does not hold. What is not finite (a division by 0) is missing too. Numbers are
//! compared in f32, the precision of what is measured, so that 0.1 is not above 0.1.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// Longest text of a formula, bytes.
const LONGEST: usize = 4_000;
/// Deepest nesting, so that no stack runs out. A sum of n terms nests n deep.
const DEEPEST: usize = 200;

/// A formula, read and checked.
#[derive(Clone, Debug)]
pub(super) struct Formula {
    text: String,
    inputs: Vec<String>,
    root: Node,
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Formula {}

#[derive(Clone, Debug)]
enum Node {
    Number(f64),
    /// Index into the inputs.
    Input(usize),
    Negate(Box<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    /// Conditions with their results, and what it is otherwise.
    Case(Vec<(Node, Node)>, Option<Box<Node>>),
    Call(Function, Vec<Node>),
}

#[derive(Copy, Clone, Debug)]
enum Operator {
    Plus,
    Minus,
    Times,
    Divide,
    Less,
    LessEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Function {
    Coalesce,
    Least,
    Greatest,
    Power,
    Abs,
    Sqrt,
    Ln,
    Log10,
    Exp,
    Round,
}

impl Function {
    /// Name, function, and how many arguments it takes at least and at most.
    const ALL: [(&'static str, Function, usize, usize); 10] = [
        ("coalesce", Function::Coalesce, 1, 64),
        ("least", Function::Least, 1, 64),
        ("greatest", Function::Greatest, 1, 64),
        ("power", Function::Power, 2, 2),
        ("abs", Function::Abs, 1, 1),
        ("sqrt", Function::Sqrt, 1, 1),
        ("ln", Function::Ln, 1, 1),
        ("log10", Function::Log10, 1, 1),
        ("exp", Function::Exp, 1, 1),
        ("round", Function::Round, 1, 1),
    ];
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// What is wrong with it, to be put behind the name of its key.
    pub(super) fn parse(text: &str) -> Result<Formula, String> {
        if text.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        let wrong = |error| format!("is no SQL expression: {error}");
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(wrong)?;
        let expression = parser.parse_expr().map_err(wrong)?;
        if parser.peek_token().token != Token::EOF {
            return Err("goes on after the end of an expression".to_owned());
        }
        let mut inputs = Vec::new();
        let root = node(&expression, &mut inputs, DEEPEST)?;
        Ok(Formula { text: text.split_whitespace().collect::<Vec<_>>().join(" "), inputs, root })
    }

    /// The formula as it was written, in one line.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The names it uses, in order of their first use.
    pub(super) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Its value, where `input` gives that of each of [`inputs`](Self::inputs) by its place; NaN is
    /// missing, here and there.
    pub(super) fn value(&self, input: &dyn Fn(usize) -> f64) -> f64 {
        finite(evaluate(&self.root, input))
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

/// A truth as a number: 1, 0, or missing.
fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn evaluate(node: &Node, input: &dyn Fn(usize) -> f64) -> f64 {
    match node {
        Node::Number(number) => *number,
        Node::Input(place) => input(*place),
        Node::Negate(of) => -evaluate(of, input),
        Node::Not(of) => 1.0 - evaluate(of, input),
        Node::IsNull(of) => truth(evaluate(of, input).is_nan()),
        Node::Binary(operator, left, right) => binary(*operator, evaluate(left, input), evaluate(right, input)),
        Node::Case(branches, otherwise) => {
            let held = branches.iter().find(|(condition, _)| evaluate(condition, input) == 1.0);
            match (held, otherwise) {
                (Some((_, result)), _) => evaluate(result, input),
                (None, Some(otherwise)) => evaluate(otherwise, input),
                (None, None) => f64::NAN,
            }
        }
        Node::Call(function, arguments) => call(*function, arguments, input),
    }
}

fn binary(operator: Operator, a: f64, b: f64) -> f64 {
    match operator {
        Operator::And if a == 0.0 || b == 0.0 => return 0.0,
        Operator::Or if a == 1.0 || b == 1.0 => return 1.0,
        _ if a.is_nan() || b.is_nan() => return f64::NAN,
        _ => {}
    }
    let (x, y) = (a as f32, b as f32);
    match operator {
        Operator::Plus => a + b,
        Operator::Minus => a - b,
        Operator::Times => a * b,
        // Missing, not infinite, so that no comparison with it holds.
        Operator::Divide => finite(a / b),
        Operator::Less => truth(x < y),
        Operator::LessEqual => truth(x <= y),
        Operator::Equal => truth(x == y),
        Operator::NotEqual => truth(x != y),
        Operator::And => truth(a != 0.0 && b != 0.0),
        Operator::Or => truth(a != 0.0 || b != 0.0),
    }
}

fn call(function: Function, arguments: &[Node], input: &dyn Fn(usize) -> f64) -> f64 {
    let mut known = arguments.iter().map(|argument| evaluate(argument, input)).filter(|value| !value.is_nan());
    let first = || arguments.first().map_or(f64::NAN, |argument| evaluate(argument, input));
    let value = match function {
        Function::Coalesce => known.next().unwrap_or(f64::NAN),
        Function::Least => known.reduce(f64::min).unwrap_or(f64::NAN),
        Function::Greatest => known.reduce(f64::max).unwrap_or(f64::NAN),
        Function::Power => first().powf(arguments.get(1).map_or(f64::NAN, |argument| evaluate(argument, input))),
        Function::Abs => first().abs(),
        Function::Sqrt => first().sqrt(),
        Function::Ln => first().ln(),
        Function::Log10 => first().log10(),
        Function::Exp => first().exp(),
        Function::Round => first().round(),
    };
    finite(value)
}

fn node(expression: &Expr, inputs: &mut Vec<String>, depth: usize) -> Result<Node, String> {
    let Some(depth) = depth.checked_sub(1) else { return Err("is nested too deep".to_owned()) };
    let mut boxed = |expression: &Expr| node(expression, inputs, depth).map(Box::new);
    Ok(match expression {
        Expr::Nested(inner) => return node(inner, inputs, depth),
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => match text.to_string().parse() {
                Ok(number) => Node::Number(finite(number)),
                Err(_) => return Err(format!("holds '{text}', which is no number")),
            },
            Value::Boolean(holds) => Node::Number(truth(*holds)),
            Value::Null => Node::Number(f64::NAN),
            _ => {
                return Err("holds a text; formulas are of numbers (names go without quotes, or in double ones)".into());
            }
        },
        Expr::Identifier(name) => input(std::slice::from_ref(name), inputs),
        Expr::CompoundIdentifier(names) => input(names, inputs),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Node::Negate(boxed(expr)?),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => return node(expr, inputs, depth),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Node::Not(boxed(expr)?),
        Expr::IsNull(of) => Node::IsNull(boxed(of)?),
        Expr::IsNotNull(of) => Node::Not(Box::new(Node::IsNull(boxed(of)?))),
        Expr::Between { expr, negated, low, high } => {
            let (low, high) = (boxed(low)?, boxed(high)?);
            let above = Node::Binary(Operator::LessEqual, low, boxed(expr)?);
            let below = Node::Binary(Operator::LessEqual, boxed(expr)?, high);
            not_if(*negated, Node::Binary(Operator::And, Box::new(above), Box::new(below)))
        }
        Expr::InList { expr, list, negated } => {
            let mut any = Node::Number(0.0);
            for one in list {
                let same = Node::Binary(Operator::Equal, boxed(expr)?, boxed(one)?);
                any = Node::Binary(Operator::Or, Box::new(any), Box::new(same));
            }
            not_if(*negated, any)
        }
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (boxed(left)?, boxed(right)?);
            let (operator, left, right) = match op {
                BinaryOperator::Plus => (Operator::Plus, left, right),
                BinaryOperator::Minus => (Operator::Minus, left, right),
                BinaryOperator::Multiply => (Operator::Times, left, right),
                BinaryOperator::Divide => (Operator::Divide, left, right),
                BinaryOperator::Lt => (Operator::Less, left, right),
                BinaryOperator::LtEq => (Operator::LessEqual, left, right),
                BinaryOperator::Gt => (Operator::Less, right, left),
                BinaryOperator::GtEq => (Operator::LessEqual, right, left),
                BinaryOperator::Eq => (Operator::Equal, left, right),
                BinaryOperator::NotEq => (Operator::NotEqual, left, right),
                BinaryOperator::And => (Operator::And, left, right),
                BinaryOperator::Or => (Operator::Or, left, right),
                other => return Err(format!("uses the operator {other}, which formulas do not have")),
            };
            Node::Binary(operator, left, right)
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            let mut branches = Vec::with_capacity(conditions.len());
            for when in conditions {
                let mut condition = node(&when.condition, inputs, depth)?;
                if let Some(operand) = operand {
                    let operand = Box::new(node(operand, inputs, depth)?);
                    condition = Node::Binary(Operator::Equal, operand, Box::new(condition));
                }
                branches.push((condition, node(&when.result, inputs, depth)?));
            }
            let otherwise = else_result.as_deref().map(|result| node(result, inputs, depth)).transpose()?;
            Node::Case(branches, otherwise.map(Box::new))
        }
        // Words of SQL with a grammar of their own.
        Expr::Floor { .. } | Expr::Ceil { .. } => return Err("rounds; use round".to_owned()),
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let known = Function::ALL.iter().find(|(known, ..)| *known == name);
            let Some((_, function_of, least, most)) = known else {
                let all = Function::ALL.map(|(name, ..)| name).join(", ");
                return Err(format!("calls '{name}'; there are {all}"));
            };
            let plain = function.filter.is_none() && function.over.is_none() && function.null_treatment.is_none();
            let arguments = match &function.args {
                FunctionArguments::List(list)
                    if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
                {
                    list.args.iter().map(|argument| match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => node(argument, inputs, depth),
                        _ => Err(format!("gives '{name}' something that is no expression")),
                    })
                }
                _ => return Err(format!("calls '{name}' with more than arguments")),
            };
            let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
            if !(*least..=*most).contains(&arguments.len()) {
                return Err(format!("gives '{name}' {} argument(s)", arguments.len()));
            }
            Node::Call(*function_of, arguments)
        }
        other => return Err(format!("holds '{other}', which is no part of formulas")),
    })
}

fn not_if(negated: bool, node: Node) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}

fn input(names: &[Ident], inputs: &mut Vec<String>) -> Node {
    let name = names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".");
    let place = inputs.iter().position(|known| *known == name).unwrap_or_else(|| {
        inputs.push(name);
        inputs.len() - 1
    });
    Node::Input(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, values: &[f64]) -> f64 {
        Formula::parse(text).unwrap_or_else(|error| panic!("{text} {error}")).value(&|place| values[place])
    }

    #[test]
    fn formulas_are_arithmetic() {
        assert_eq!(value("1 + 2 * 3 - (4 - 1) / 2", &[]), 5.5);
        assert_eq!(value("-a * 2 + +b", &[3.0, 1.0]), -5.0);
        assert_eq!(value("power(2, 10) + abs(-1) + sqrt(9) + ln(exp(1)) + log10(1000) + round(2.6)", &[]), 1035.0);
        assert_eq!(value("least(a, b) - greatest(a, b, 1)", &[f64::NAN, 4.0]), 0.0);
        let formula = Formula::parse("a / \"b.max.8h\"\n + a.last").unwrap();
        assert_eq!(formula.inputs(), ["a", "b.max.8h", "a.last"]);
        assert_eq!(formula.text(), "a / \"b.max.8h\" + a.last");
    }

    #[test]
    fn conditions_choose() {
        let steps = "CASE WHEN a <= 8 THEN 3 WHEN a BETWEEN 9 AND 11 THEN 1 WHEN a IN (12, 13) THEN 7 ELSE 0 END";
        assert_eq!([8.0, 9.0, 11.0, 11.5, 13.0, 99.0].map(|a| value(steps, &[a])), [3.0, 1.0, 1.0, 0.0, 7.0, 0.0]);
        assert_eq!(value("CASE a WHEN 1 THEN 5 END", &[1.0]), 5.0);
        assert!(value("CASE a WHEN 1 THEN 5 END", &[2.0]).is_nan());
        assert_eq!(value("a > 1 AND b < 2 OR NOT c >= 3", &[2.0, 3.0, 3.0]), 0.0);
        assert_eq!(value("(a <> b) + (a = b) + true", &[2.0, 3.0]), 2.0);
        assert_eq!(value("a NOT BETWEEN 1 AND 2", &[3.0]), 1.0);
        assert_eq!(value("a NOT IN (1, 2)", &[1.0]), 0.0);
        assert_eq!(value("(a > 0.1) + (a >= 0.1) + (a = 0.1)", &[f64::from(0.1_f32)]), 2.0);
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let missing = [f64::NAN, 1.0];
        for text in ["a + b", "a < b", "NOT a", "a / 0", "1 / 0", "ln(0)", "sqrt(-1)", "NULL", "a = a", "a OR b > 1"] {
            assert!(value(text, &missing).is_nan(), "{text}");
        }
        assert_eq!(value("coalesce(a, b)", &missing), 1.0);
        assert_eq!(value("a IS NULL", &missing), 1.0);
        assert_eq!(value("b IS NOT NULL", &[1.0]), 1.0);
        assert_eq!(value("a > 1 AND b > 1", &missing), 0.0, "false whatever a is");
        assert_eq!(value("a > 1 OR b = 1", &missing), 1.0, "true whatever a is");
        assert_eq!(value("CASE WHEN a > 1 THEN 1 ELSE 2 END", &missing), 2.0);
        assert_eq!(value("CASE WHEN 1 / b > 5 THEN 1 ELSE 2 END", &[0.0]), 2.0, "no infinity is above 5");
    }

    #[test]
    fn what_is_no_formula_is_refused_in_words() {
        for (text, word) in [
            ("", "is no SQL expression"),
            ("a +", "is no SQL expression"),
            ("a b", "goes on"),
            ("a; b", "goes on"),
            ("'a'", "holds a text"),
            ("a % 2", "operator %"),
            ("sum(a)", "calls 'sum'"),
            ("power(a)", "1 argument"),
            ("coalesce(DISTINCT a)", "more than arguments"),
            ("(SELECT 1)", "no part of formulas"),
            ("a IS TRUE", "no part of formulas"),
        ] {
            let error = Formula::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        for deep in ["(".repeat(3_000), format!("1{}", "+1".repeat(1_990)), format!("1{}", "+1".repeat(9_000))] {
            assert!(Formula::parse(&deep).is_err());
        }
        assert_eq!(value(&format!("1{}", "+1".repeat(150)), &[]), 151.0);
    }
}
