// Microsoft's own KQL parser and binder, offline: { schema, queries: { name: text } } in, { name: [{ code, severity, at, says }] } out.
'use strict';

const { createRequire } = require('node:module');
const requireLocal = createRequire(`${__dirname}/../../local/package.json`);

requireLocal('@kusto/language-service-next/bridge.min.js');
requireLocal('@kusto/language-service-next/Kusto.Language.Bridge.min.js');

const { Diagnostic, GlobalState, KustoCode, Symbols } = Kusto.Language;

function globals(schema) {
  const tables = Object.entries(schema).map(([name, columns]) => new Symbols.TableSymbol.$ctor7(name, `(${columns})`, null));
  const database = new Symbols.DatabaseSymbol.$ctor1('workspace', tables);
  return GlobalState.Default.WithDatabase(database);
}

function diagnose(text, state) {
  const found = KustoCode.ParseAndAnalyze(text, state).GetDiagnostics();
  const said = [];
  for (let i = 0; i < found.Count; i++) {
    const one = found.getItem(i);
    said.push({ code: one.Code, severity: one.Severity, at: text.slice(one.Start, one.Start + one.Length), says: one.Message });
  }
  return said;
}

const asked = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const state = globals(asked.schema);
const answer = Object.fromEntries(Object.entries(asked.queries).map(([name, text]) => [name, diagnose(text, state)]));
process.stdout.write(JSON.stringify(answer));
