// Prints the verdicts of npm's @phala/dcap-qvl on a file of cases: those of TDX alone.
'use strict';

const fs = require('fs');
const { QuoteVerifier } = require('@phala/dcap-qvl');

function verify(each) {
  const verifier = QuoteVerifier.newWithRootCa(Buffer.from(each.root, 'base64'));
  const quote = new Uint8Array(Buffer.from(each.evidence, 'base64'));
  return verifier.verify(quote, each.collateral, each.now);
}

// No error means accepted. The library returns most statuses instead of refusing them.
function caught(each) {
  try {
    const report = verify(each);
    const advisories = report.advisory_ids ?? report.advisoryIds ?? [];
    return report.status === 'UpToDate' && advisories.length === 0 ? '' : `status ${report.status} ${advisories}`;
  } catch (error) {
    return `${error.message || error}`;
  }
}

function median(each) {
  const took = [];
  for (let round = 0; round < each.rounds; round += 1) {
    const started = process.hrtime.bigint();
    caught(each);
    took.push(Number(process.hrtime.bigint() - started) / 1000);
  }
  took.sort((first, second) => first - second);
  return took.length ? took[Math.floor(took.length / 2)] : 0;
}

const cases = JSON.parse(fs.readFileSync(process.argv[2], 'utf8')).filter((each) => each.kind === 'tdx');
const results = cases.map((each) => ({
  name: each.name,
  peer: '@phala/dcap-qvl',
  error: caught(each),
  microseconds: median(each),
}));
process.stdout.write(JSON.stringify(results));
