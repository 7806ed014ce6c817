"""Asks Spark for the golden table of the Spark dialect.

    python3 -m venv /tmp/spark && /tmp/spark/bin/pip install pyspark==3.5.3   # and a Java runtime
    /tmp/spark/bin/python tests/golden/spark/make.py

With the argument `new` the answers to expressions that are in `answers.jsonl` already are kept, as
long as the rows are the same. Reads `expressions.txt` (one expression a line, `#` begins a comment), evaluates each over the rows
below, and writes `rows.json` and `answers.jsonl`: a line for each expression with its text, the type
that Spark gives it and its values, each value once with the number of times in a row that it occurs.
Spark runs locally, in UTC, with ANSI off. Its time parser is the corrected one: the default stops a
job where the parser of Spark 2 would have read a text.
"""

import datetime
import decimal
import json
import pathlib
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as t

HERE = pathlib.Path(__file__).resolve().parent
UTC = datetime.timezone.utc

COLUMNS = [
    ("id", "int"),
    ("t8", "tinyint"),
    ("t16", "smallint"),
    ("n", "int"),
    ("m", "int"),
    ("big", "bigint"),
    ("f32", "float"),
    ("x", "double"),
    ("y", "double"),
    ("d", "decimal(10,2)"),
    ("e", "decimal(20,6)"),
    ("ok", "boolean"),
    ("s", "string"),
    ("u", "string"),
    ("num", "string"),
    ("day", "date"),
    ("ts", "timestamp"),
    ("daytext", "string"),
    ("tstext", "string"),
    ("ustext", "string"),
    ("js", "string"),
    ("csv", "string"),
    ("st", "struct<name:string,n:int,in:struct<x:double,f:float,d:decimal(20,10),day:date,ts:timestamp,ok:boolean>>"),
    ("items", "array<struct<sku:string,price:decimal(10,2),tags:array<string>>>"),
    ("tags", "array<string>"),
    ("kv", "map<string,int>"),
    ("fj", "string"),
    ("ns", "array<int>"),
    ("xs", "array<double>"),
    ("nn", "array<array<int>>"),
]
# Columns of objects and lists: Spark reads their JSON.
NESTED = [name for name, kind in COLUMNS if "<" in kind]

INT = [0, 1, -1, 2, 5, 7, -7, 10, 42, 100, -100, 2147483647, -2147483648, 1000000, None]
BIG = [0, 1, -1, 3, 9007199254740993, 9223372036854775807, -9223372036854775808, 1795481100, -86401, None, 86400, 12345678901]
DOUBLE = [0.0, -0.0, 1.0, -1.5, 2.5, 0.1, 1e-5, 1e7, 12345678.9, 1e100, -1e-300, 3.5, -2.5, 0.5, "NaN", "Infinity", "-Infinity", None, 123456.789, 100.0, 2.675, 1e16, 0.001]
FLOAT = [0.0, 1.5, -2.25, 0.1, 1e10, 3.4e38, "NaN", None, 16777217.0, 1e-4]
DECIMAL = ["0.00", "1.00", "-1.50", "12.34", "99999999.99", "-99999999.99", "0.05", "2.50", "-2.55", None, "100.00", "7.00"]
DECIMAL6 = ["0.000000", "1.500000", "-3.333333", "99999999999999.999999", "0.000001", None, "2.000000", "-0.500000", "3.000000"]
TEXT = ["", "a", "abcdef", "ABC", "Hello World", "héllo", "日本語テキスト", "o'neil-smith", " padded ", "a,b,c", "x_y%z", None, "😀 emoji", "line\nbreak", "MiXeD cAsE", "tab\there", "aXbXc", "0012", "straße", "ÀÉÎ", "a.b.c", "paid", "back\\slash", "end\n"]
OTHER = ["a", "b", "", None, "abc", "é", "XYZ", ",", "paid", "日本"]
NUMBER = ["12", "-7", "3.7", "", " 42 ", "abc", None, "1e3", "2147483648", "-2147483649", "9223372036854775808", "+5", "0x1A", "1,000", "NaN", "inf", "-Infinity", ".5", "5.", "true", "YES", "t", "0", "1", "127", "128", "-129", "9000", "99999999999999999999", "1.005", "-2.5", "12345678901234567890.123", "2026-11-24", ".", "-", "1d", "no", "F", "1e400", "\t9\n", "00012", "--5", "1 2", "1e-10", "100"]
DAYS = [(2026, 11, 24), (1970, 1, 1), (1969, 12, 31), (2024, 2, 29), (2000, 2, 29), (1900, 1, 1), (2026, 1, 31), (2025, 12, 29), (2026, 1, 4), (9990, 12, 31), None, (1582, 10, 15), (2023, 3, 1)]
TIMES = [(2026, 11, 24, 10, 20, 30, 0), (1970, 1, 1, 0, 0, 0, 0), (1969, 12, 31, 23, 59, 59, 999999), (2024, 2, 29, 12, 0, 0, 500000), (2026, 1, 31, 0, 0, 1, 120), None, (2025, 12, 31, 23, 59, 59, 123456), (1900, 1, 1, 0, 0, 0, 0), (9990, 12, 31, 23, 59, 59, 0), (2026, 3, 8, 7, 5, 9, 10000), (2023, 7, 15, 18, 45, 0, 7000)]
DAYTEXT = ["2026-11-24", "2026-1-4", "2026-02-30", "2024-02-29", "", None, "2026", "2026-11", "2026-11-24T10:00:00", "2026-11-24 10:00:00", "11/24/2026", "20261124", " 2026-11-24 ", "2026-13-01", "abc", "0002-01-01", "2026-11-24Z", "24.11.2026", "2026-00-10", "1969-07-20"]
TIMETEXT = ["2026-11-24 10:20:30", "2026-11-24T10:20:30Z", "2026-11-24T10:20:30.5", "2026-11-24 10:20:30.123456789", "2026-11-24T10:20:30+02:00", "2026-11-24T10:20:30+0200", "2026-11-24 10:20", "2026-11-24", "2026-11-24 1:2:3", "", None, "1795481100", "2026-11-24 25:00:00", "2026-11-24T10:20:30 UTC", "2026-11-24T10:20:30 Europe/Berlin", "abc", "2026-11-24 10:20:30 AM", "2026-02-30 00:00:00", "2026-11-24T10:20:30-08:00", "2026-11-24 10:20:60", "2026-11-24 10", " 2026-11-24 10:20:30 ", "2026-11-24T10:20:30.", "2026-11-24T24:00:00", "2026-11-24T10:20:30+2", "2026-11-24T10:20:30+18:30", "2026-11-24 10:20:30.1234567890", "1999-12-31T23:59:59.999999Z", "2026-11-24 10:20:30+01"]
USTEXT = ["11/24/2026", "1/4/2026", "01/04/2026", "13/01/2026", "02/30/2026", "", None, "2026-11-24", "11/24/26", "12/31/1999 ", "11/24/2026 10:20"]
JSON = ['{"a":1,"b":"two","c":{"d":[1,2,{"e":"x"}]},"f":1.50,"g":true,"h":null}', '{"a":"text with \\"quotes\\" and \\u00e9","b":-5}', "[1,2,3]", "", None, "no json", '{"a":', '{"a":{"b":{"c":"deep"}},"items":[{"sku":"A1","q":2},{"sku":"B2","q":1}]}', '{"a b":1,"a.b":2,"A":3,"a":4}', '{"a":12345678901234567890,"b":1e3,"f":0.1}', '{"a":[]," b":{}}', '{"a":1} trailing', '"just text"', "17", '{"a":"日本","b":"line\\nbreak/slash"}', '{"a":1,"a":2}', "{}", '{"b":[["x","y"],["z"]],"a":false}',
    "{'a':'single','b':[null,1]}", '[null,{"a":null}]', '{"a":"tab\there","b":"😀"}', '{"a":{"b":"😀","n":-0,"x":NaN}}', '{"a":{"b":"😀","n":-0}}', '{"a":1,"b":tru}', '{"a":[1,2],"b":1}x', '{"a":"x","b":{"c":[0.10,1E5]}}']
CSV = ["x,y,z", "", None, "one", ",", "a,,b", "x, y ,z", "日,本", "a,b,", ",a"]
ST = [
    '{"name":"Ada","n":1,"in":{"x":1e10,"f":0.1,"d":0.0000000001,"day":"2026-11-24","ts":"2026-11-24T10:20:30.123456Z","ok":true}}',
    None, "{}", '{"name":"a\\u0001b\\"/\\\\é\\n","n":-5,"in":{}}', '{"name":"","in":null}',
    '{"n":2147483647,"in":{"x":-0.0,"d":12345.5,"day":"0001-01-01","ts":"1969-12-31T23:59:59.999999Z","ok":false}}',
    '{"name":"b","in":{"x":0.001,"f":16777217.0,"d":-0.5}}',
]
ITEMS = [
    '[{"sku":"A1","price":1.5,"tags":["x","y"]},{"sku":"B2","price":20,"tags":[]}]', "[]", None,
    '[null,{"sku":null,"price":null},{}]', '[{"sku":"one"}]', '[{"tags":[null,"z"]},null,{"sku":"c","price":-0.05},{"sku":"d"},{"sku":"e","price":99999999.99}]',
]
TAGS = ['["red","big, \\"new\\""]', "[]", None, '[null]', '["a","b",null,"a"]']
FJ = [
    '{"a":1,"b":"x","c":true,"z":1}', '{"a":"1","b":2,"c":"true"}', '{"a":1.5,"b":1.50}', '{"a":1', '{"a":', '{"a":1,"b":"unterm', '{"a":tru,"b":"q"}',
    '{"b":"bad\\q esc","a":5}', '{"b":"tab\there","a":5}', '[{"a":1,"b":"in a list"}]', "null", "", "  ", "17", '"t"', "{'a':3,'b':'s\\'q'}", '{"a":1}x', '{"A":1,"B":"big"}',
    '{"a":1,"a":2}', '{"a":1,"a":"x"}', '{"a":null,"b":null}', '{"b":{"x":[1,2.50,"q",null,NaN,{}],"y":{}},"a":2}', '{"a":2147483648}', '{"b":"\\ud800","a":4}', '{"b":NaN}', '{"b":-0}',
    '{"b":12345678901234567890123}', "{a:1}", '{"a":01}', '{"a":+1}', '{"a":1,}', '{"a":1 "b":2}', '{"b":[1,tru],"a":3}', '{"a":[1,tru,2],"b":3}', '{"a":{"x":1},"b":3}', None,
    '{"s":{"x":tru,"y":"k"},"z":4,"l":[1]}', '{"l":[1,"x",3],"z":1}', '{"l":[1,null,3],"m":{"p":1,"q":null},"s":{"x":1},"z":2}', '{"m":{"p":1,"q":"bad","r":3},"z":3}',
    '{"s":{"x":"bad","y":"k"},"z":4}', '{"l":7,"z":5}', '{"s":[1],"z":7}', '{"s":{"x":1,"x":2},"z":8}', '{"l":[1,tru,2],"z":9}', '{"l":[],"m":{},"s":{}}', '{"l":[1,2', '{"l":[[1],2],"z":10}',
    '[{"x":1},{"y":"q"}]', '{"x":1,"y":"k"}', '[{"x":"bad","y":"k"},{"x":2}]', '{"x":"bad","y":"k"}', "[1]", "[null]", "[]", '[{"x":1}', "[1,2]", '[1,"x"]', "[1,", '{"a":{"x":1}}', '{"a":{"x":"bad"},"b":{"x":2}}',
    '{"ts":"2026-11-24T10:20:30Z","d":"2026-11-24","m":1.005,"f":"NaN","o":"Infinity"}', '{"ts":1795481100,"d":20000,"m":"1,2.5","f":1,"o":NaN}', '{"ts":"2026-11-24 10:20:30 GMT+01:00","d":"123","m":12345.6,"f":-Infinity,"o":1e400}',
    '{"ts":"2000-01-01T00:00GMT+01:00","d":"-5","m":"1e1","o":"1.5"}', '{"m":"","o":"","ts":"","d":""}', '{"i":200,"h":40000,"g":9223372036854775808}', '{"i":-129,"h":-32768,"g":-5}', '{"i":255,"f":16777217,"o":12345678901234567890}',
    '{"ts":1.5,"d":"2026-11-24T00:00","m":" 1 ","f":"+INF","o":"-INF"}', '{"o":INF}', '{"o":-INF}', '{"o":+Infinity,"f":0.1}', '{"ts":" 2026-11-24 ","m":-0.005,"o":-0.0,"f":1e-50}', '{"m":1e2,"o":"nan","d":"2026"}',
    '{"b":"😀","s":{"y":"😀"},"t":{"e":"😀é\\u0001/"}}', '{"t":[{"k":"v"}],"b":["😀"]}', '// c\n{"a":1}', '{"a":/*c*/1}', '\ufeff{"a":1}', '{"a":1e2,"o":1E+2,"b":1E-7}', '{"b":1.0e10,"o":5.}', '{"o":.5}', '{"o":-}', '{"":1,"a":6}', '{"b c":1,"a":7}', '[[1,null],[2]]', '{"p":[{"q":[{"r":1}]}]}', '{"a":1}{"a":2}', '{"a":\u00a01}', '{"b":trueish,"a":1}', '{"c":true,"b":false}', '{"b":"a\\u00e9\\/\\b","c":null}',
]
NS = ["[3,1,2,null,3]", "[]", None, "[null]", "[1,2,3]", "[-5,2147483647]", "[2,2]"]
XS = ["[1.5,-0.0,0.0,null]", "[]", None, "[0.1,0.2,0.1]", "[1e300,-1e300]"]
NN = ["[[1,2],[3]]", "[]", None, "[[],null]", "[[1,null],[4]]", "[[5]]"]
KV = ['{"a":1,"b":null,"A":3}', "{}", None, '{"b":2}', '{"k 1":7,"a":-1,"":0}']


def pick(values, row, stride):
    return values[(row * stride + row // len(values)) % len(values)]


def rows(count):
    made = []
    for i in range(count):
        small = pick([0, 1, -1, 5, 100, 127, -128, None], i, 3)
        short = pick([0, 2, -3, 1000, 32767, -32768, None], i, 2)
        m = pick([0, 1, 2, -3, 7, None, 1000], i, 5)
        made.append([
            i, small, short, pick(INT, i, 1), m, pick(BIG, i, 1), pick(FLOAT, i, 1), pick(DOUBLE, i, 1), pick(DOUBLE, i, 7),
            pick(DECIMAL, i, 1), pick(DECIMAL6, i, 2), pick([True, False, None, True], i, 1), pick(TEXT, i, 1), pick(OTHER, i, 3),
            pick(NUMBER, i, 1), pick(DAYS, i, 1), pick(TIMES, i, 1), pick(DAYTEXT, i, 1), pick(TIMETEXT, i, 1), pick(USTEXT, i, 1),
            pick(JSON, i, 1), pick(CSV, i, 1), pick(ST, i, 1), pick(ITEMS, i, 1), pick(TAGS, i, 2), pick(KV, i, 3),
            pick(FJ, i, 1), pick(NS, i, 1), pick(XS, i, 1), pick(NN, i, 1),
        ])
    return made


def written(value):
    """A value of a row as JSON."""
    if isinstance(value, tuple):
        return "-".join(f"{part:02d}" if place else f"{part:04d}" for place, part in enumerate(value[:3])) + (
            "" if len(value) == 3 else " %02d:%02d:%02d.%06d" % value[3:])
    return value


def of_python(value, kind):
    if value is None:
        return None
    if "<" in kind:
        return value
    if kind == "date":
        return datetime.date(*value)
    if kind == "timestamp":
        return datetime.datetime(*value, tzinfo=UTC)
    if kind.startswith("decimal"):
        return decimal.Decimal(value)
    if kind in ("double", "float"):
        return float(value)
    return value


def answer(value, kind):
    """A value that Spark gave, as JSON that keeps every bit."""
    if value is None:
        return None
    if isinstance(kind, t.ArrayType):
        return [answer(item, kind.elementType) for item in value]
    if isinstance(kind, t.StructType):
        return [answer(item, field.dataType) for item, field in zip(value, kind.fields)]
    if isinstance(kind, t.MapType):
        # A map of Python has an order of its own.
        return sorted(([answer(key, kind.keyType), answer(item, kind.valueType)] for key, item in value.items()), key=str)
    if isinstance(value, bool) or isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value)


def lines(path):
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def main():
    count = 240
    spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
             .config("spark.sql.session.timeZone", "UTC").config("spark.sql.ansi.enabled", "false")
             .config("spark.sql.legacy.timeParserPolicy", "CORRECTED").config("spark.sql.shuffle.partitions", "1")
             .config("spark.sql.codegen.wholeStage", "false").config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
             .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC").getOrCreate())
    spark.sparkContext.setLogLevel("OFF")
    made = rows(count)
    schema = ", ".join(f"{name} {'string' if name in NESTED else kind}" for name, kind in COLUMNS)
    typed = [[of_python(value, kind) for value, (_, kind) in zip(row, COLUMNS)] for row in made]
    frame = spark.createDataFrame(typed, schema).coalesce(1)
    for name, kind in COLUMNS:
        if name in NESTED:
            frame = frame.withColumn(name, F.from_json(name, kind))
    frame = frame.cache()
    frame.createOrReplaceTempView("source")
    written_rows = json.dumps(
        {"columns": COLUMNS, "rows": [[written(value) for value in row] for row in made]}, ensure_ascii=False).replace("], [", "],\n[") + "\n"
    known = {}
    if sys.argv[1:] == ["new"] and (HERE / "rows.json").read_text() == written_rows:
        known = {line["sql"]: line for line in map(json.loads, lines(HERE / "answers.jsonl"))}
    (HERE / "rows.json").write_text(written_rows)
    out = []
    wanted = list(lines(HERE / "expressions.txt"))
    texts = [text for text in wanted if text not in known]
    for start in range(0, len(texts), 25):
        out += ask(spark, texts[start:start + 25])
        print(min(start + 25, len(texts)), "of", len(texts), file=sys.stderr)
    known.update((line["sql"], line) for line in out)
    out = [known[text] for text in wanted]
    (HERE / "answers.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in out))


def ask(spark, texts):
    try:
        return asked(spark, texts)
    except Exception as error:  # One of them fails: each on its own.
        if len(texts) == 1:
            reason = str(error).splitlines()[0][:200]
            print("refused:", texts[0], reason, file=sys.stderr)
            return [{"sql": texts[0], "refused": reason}]
        return [line for text in texts for line in ask(spark, [text])]


def asked(spark, texts):
    whole = [text.upper().startswith(("SELECT", "WITH")) for text in texts]
    answers = {}
    for text in (text for text, is_whole in zip(texts, whole) if is_whole):
        frame = spark.sql(text)
        kinds = [field.dataType for field in frame.schema.fields]
        got = [[answer(value, kind) for value, kind in zip(row, kinds)] for row in frame.collect()]
        answers[text] = {"sql": text, "names": frame.columns, "types": [kind.simpleString() for kind in kinds], "rows": got}
    plain = [text for text, is_whole in zip(texts, whole) if not is_whole]
    if plain:
        frame = spark.sql("SELECT id, " + ", ".join(f"{text} AS r{place}" for place, text in enumerate(plain)) + " FROM source")
        collected = sorted(frame.collect(), key=lambda row: row[0])
        for place, text in enumerate(plain):
            kind = frame.schema.fields[place + 1].dataType
            runs = []
            for row in collected:
                value = answer(row[place + 1], kind)
                if runs and runs[-1][0] == value:
                    runs[-1][1] += 1
                else:
                    runs.append([value, 1])
            answers[text] = {"sql": text, "type": kind.simpleString(), "values": runs}
    return [answers[text] for text in texts]


if __name__ == "__main__":
    main()
