// Checks KQL queries offline with Microsoft's parser and binder.
// Input (stdin): { schema, queries: { name: text } }
// Output (stdout): { name: [{ code, severity, text, message }] }
'use strict';

const { createRequire } = require('node:module');
const { readFileSync } = require('node:fs');
const requireLocal = createRequire(`${__dirname}/../../local/package.json`);

requireLocal('@kusto/language-service-next/bridge.min.js');
requireLocal('@kusto/language-service-next/Kusto.Language.Bridge.min.js');

const { GlobalState, KustoCode, Symbols } = Kusto.Language;

function createState(schema) {
  const tables = Object.entries(schema).map(
    ([name, columns]) => new Symbols.TableSymbol.$ctor7(name, `(${columns})`, null),
  );
  const database = new Symbols.DatabaseSymbol.$ctor1('workspace', tables);
  return GlobalState.Default.WithDatabase(database);
}

function getDiagnostics(query, state) {
  const diagnostics = KustoCode.ParseAndAnalyze(query, state).GetDiagnostics();
  return Array.from({ length: diagnostics.Count }, (_, index) => {
    const { Code, Severity, Start, Length, Message } = diagnostics.getItem(index);
    const text = query.slice(Start, Start + Length);
    return { code: Code, severity: Severity, text, message: Message };
  });
}

const request = JSON.parse(readFileSync(0, 'utf8'));
const state = createState(request.schema);
const results = Object.entries(request.queries).map(([name, text]) => [
  name,
  getDiagnostics(text, state),
]);
process.stdout.write(JSON.stringify(Object.fromEntries(results)));
