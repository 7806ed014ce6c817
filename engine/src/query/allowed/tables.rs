//! Tables and joins.

use super::{Checked, Walk, empty, none, not, refused, refused_with};
use datafusion::sql::sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins,
};

impl Walk<'_> {
    pub(super) fn tables(&mut self, tables: &mut TableWithJoins) -> Checked {
        let TableWithJoins { relation, joins } = tables;
        self.table(relation)?;
        for Join {
            relation,
            global,
            join_operator,
        } in joins
        {
            not(*global, "GLOBAL")?;
            self.table(relation)?;
            self.join(join_operator)?;
        }
        Ok(())
    }

    fn join(&mut self, join: &mut JoinOperator) -> Checked {
        let constraint = match join {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::LeftSemi(constraint)
            | JoinOperator::RightSemi(constraint)
            | JoinOperator::LeftAnti(constraint)
            | JoinOperator::RightAnti(constraint) => constraint,
            JoinOperator::CrossJoin(JoinConstraint::None) => return Ok(()),
            JoinOperator::CrossJoin(_) => {
                return Err(refused_with("ON after CROSS JOIN", "write JOIN"));
            }
            JoinOperator::Semi(_) => return Err(refused_with("SEMI JOIN", "write LEFT SEMI JOIN")),
            JoinOperator::Anti(_) => return Err(refused_with("ANTI JOIN", "write LEFT ANTI JOIN")),
            JoinOperator::CrossApply | JoinOperator::OuterApply => {
                return Err(refused_with(
                    "APPLY",
                    "write CROSS JOIN LATERAL or LEFT JOIN LATERAL",
                ));
            }
            JoinOperator::AsOf {
                match_condition: _,
                constraint: _,
            } => return Err(refused("ASOF JOIN")),
            JoinOperator::StraightJoin(_) => {
                return Err(refused_with("STRAIGHT_JOIN", "write JOIN"));
            }
            JoinOperator::ArrayJoin
            | JoinOperator::LeftArrayJoin
            | JoinOperator::InnerArrayJoin => {
                return Err(refused_with(
                    "ARRAY JOIN",
                    "write unnest(list) AS element in the SELECT",
                ));
            }
        };
        match constraint {
            JoinConstraint::On(condition) => self.expr(condition),
            JoinConstraint::Using(_) | JoinConstraint::Natural | JoinConstraint::None => Ok(()),
        }
    }

    fn table(&mut self, table: &mut TableFactor) -> Checked {
        match table {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                none(args.as_ref(), "a function in the place of a table")?;
                empty(with_hints, "WITH after a table's name")?;
                none(version.as_ref(), "a table's version (AS OF)")?;
                not(*with_ordinality, "WITH ORDINALITY")?;
                empty(partitions, "PARTITION after a table's name")?;
                none(json_path.as_ref(), "a path after a table's name")?;
                none(sample.as_ref(), "TABLESAMPLE")?;
                empty(index_hints, "USE, FORCE or IGNORE INDEX")?;
                self.alias(alias.as_ref())?;
                self.reads(self.read_of(name))
            }
            TableFactor::Derived {
                lateral: _,
                subquery,
                alias,
                sample,
            } => {
                none(sample.as_ref(), "TABLESAMPLE")?;
                self.alias(alias.as_ref())?;
                self.query(subquery)
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                self.alias(alias.as_ref())?;
                self.tables(table_with_joins)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality,
            } => {
                not(*with_offset, "WITH OFFSET")?;
                none(with_offset_alias.as_ref(), "WITH OFFSET")?;
                not(*with_ordinality, "WITH ORDINALITY")?;
                self.alias(alias.as_ref())?;
                self.all(array_exprs)
            }
            TableFactor::Function { .. } | TableFactor::TableFunction { .. } => {
                Err(refused("a function in the place of a table"))
            }
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => Err(refused_with(
                "JSON_TABLE",
                "write unnest(json_get_array(column)) AS element in the SELECT",
            )),
            TableFactor::Pivot { .. } => Err(refused_with(
                "PIVOT",
                "write sum(CASE WHEN column = 'a' THEN x END) AS a",
            )),
            TableFactor::Unpivot { .. } => Err(refused_with("UNPIVOT", "write UNION ALL")),
            TableFactor::MatchRecognize { .. } => Err(refused("MATCH_RECOGNIZE")),
            TableFactor::XmlTable { .. } => Err(refused("XMLTABLE")),
            TableFactor::SemanticView { .. } => Err(refused("SEMANTIC_VIEW")),
        }
    }

    pub(super) fn alias(&mut self, alias: Option<&TableAlias>) -> Checked {
        let Some(TableAlias {
            explicit: _,
            name: _,
            columns,
            at,
        }) = alias
        else {
            return Ok(());
        };
        none(at.as_ref(), "AT after a table's other name")?;
        for TableAliasColumnDef { name: _, data_type } in columns {
            none(data_type.as_ref(), "a type after a column's other name")?;
        }
        Ok(())
    }
}
