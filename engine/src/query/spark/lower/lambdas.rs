//! `x -> x + 1` as an argument.
//!
//! Owns: where it may stand, its parameters. Does not own: the functions that take one (`higher`).
//! Rule: a parameter hides the column of its name, as in Spark.

use super::{Lower, Refused, call, text};
use crate::query::spark::higher;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LambdaFunction,
    OneOrManyWithParens,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// `exists(list, x -> ...)` is a function; before a query, EXISTS is none.
pub(super) fn name_exists(tokens: &mut [TokenWithSpan]) {
    let mut follow = None;
    let mut is_called = false;
    for token in tokens.iter_mut().rev() {
        match &mut token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => {
                is_called = !matches!(follow, Some(Keyword::SELECT | Keyword::WITH));
                // EXISTS ((SELECT ...)) is none either.
                continue;
            }
            Token::Word(word) => {
                if is_called && word.keyword == Keyword::EXISTS {
                    word.keyword = Keyword::NoKeyword;
                }
                follow = Some(word.keyword);
            }
            _ => follow = None,
        }
        is_called = false;
    }
}

impl Lower {
    /// Counts a function that stands where one may.
    pub(super) fn expect_lambda(&mut self, function: &Function) -> Result<(), Refused> {
        let name = function.name.to_string().to_lowercase();
        let Some(shape) = higher::SHAPES.iter().find(|shape| shape.name == name) else {
            return Ok(());
        };
        let FunctionArguments::List(list) = &function.args else {
            return Ok(());
        };
        let is_lambda = |arg: &FunctionArg| {
            matches!(
                arg,
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Lambda(_)))
            )
        };
        let given: Vec<bool> = list.args.iter().map(is_lambda).collect();
        let expressions = given.len().saturating_sub(shape.values);
        let fits = given
            .iter()
            .enumerate()
            .all(|(at, is_lambda)| *is_lambda == (at >= shape.values));
        if !fits || !shape.expressions.contains(&expressions) {
            return Err(self.refuse(
                format!("{name}() with such arguments"),
                &format!("write {}", shape.usage),
            ));
        }
        self.lambdas_due += expressions;
        Ok(())
    }

    pub(super) fn enter(&mut self, lambda: &mut LambdaFunction) -> Result<(), Refused> {
        if self.lambdas_due == 0 {
            let names: Vec<&str> = higher::SHAPES.iter().map(|shape| shape.name).collect();
            let hint = format!("these functions take one: {}", names.join(", "));
            return Err(self.refuse(format!("the function {lambda} as an argument"), &hint));
        }
        self.lambdas_due -= 1;
        let mut names = vec![];
        let parameters = match &mut lambda.params {
            OneOrManyWithParens::One(parameter) => std::slice::from_mut(parameter),
            OneOrManyWithParens::Many(parameters) => parameters.as_mut_slice(),
        };
        for parameter in parameters {
            if parameter.data_type.is_some() {
                return Err(self.refuse("a parameter with a type", "leave the type out"));
            }
            let name = parameter.name.value.to_lowercase();
            if names.contains(&name) {
                return Err(self.refuse(
                    format!("two parameters {name}"),
                    "give each a name of its own",
                ));
            }
            parameter.name = Ident::with_quote('"', &name);
            names.push(name);
        }
        self.parameters.push(names);
        Ok(())
    }

    /// `x.sku` of a parameter x.
    pub(super) fn field_of_parameter(&mut self, expr: &mut Expr) {
        let Expr::CompoundIdentifier(names) = expr else {
            return;
        };
        let first = names[0].value.to_lowercase();
        let mut scopes = self.parameters.iter().flatten();
        if !scopes.any(|parameter| *parameter == first) {
            return;
        }
        let names = std::mem::take(names);
        self.note_capitals(&names);
        let mut of = Expr::Identifier(Ident::with_quote('"', first));
        for name in &names[1..] {
            of = call("spark:field", vec![of, text(name.value.to_lowercase())]);
        }
        *expr = of;
    }
}
