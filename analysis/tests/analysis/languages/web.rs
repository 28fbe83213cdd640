//! JavaScript and TypeScript.

use analysis::language::Language;

use super::{imports, read, symbols};

const SCRIPT: &str = r#"#!/usr/bin/env node
import React, { useState } from "react";
import * as wire from './wire.js';
export { a } from "../a";
export * from './b';
const fs = require('fs');
const later = () => import("./later.mjs");

export default class Client extends Base {
  constructor(url) { super(); this.url = url ?? "x"; }
  get name() { return this.url; }
}
function* each(list) {
  for (const x of list) { if (x && !x.done || x) yield x; }
  switch (list.length) { case 0: return; case 1: break; default: break; }
  try { do {} while (list.next()); } catch (e) { return e ? 1 : 2; }
}
const arrow = async (x) => x && x.y;
"#;

#[test]
fn javascript() {
    let facts = read(Language::JavaScript, SCRIPT);
    assert_eq!(
        symbols(&facts),
        [
            ("function", "", "later", 1),
            ("class", "", "Client", 0),
            ("method", "Client", "constructor", 2),
            ("method", "Client", "name", 1),
            // 1, for, if, &&, ||, two cases, do, catch, ?:
            ("function", "", "each", 10),
            ("function", "", "arrow", 2),
        ]
    );
    assert_eq!(
        imports(&facts),
        ["react", "./wire.js", "../a", "./b", "fs", "./later.mjs"]
    );
    assert_eq!(facts.errors, 0);
    // The same text is JavaScript, TypeScript and TSX.
    for language in [Language::TypeScript, Language::Tsx] {
        let other = read(language, SCRIPT);
        assert_eq!(symbols(&other), symbols(&facts), "{language:?}");
        assert_eq!(imports(&other), imports(&facts), "{language:?}");
    }
}

#[test]
fn typescript() {
    let facts = read(
        Language::TypeScript,
        r#"import type { A } from "./a";
import legacy = require("./legacy");
export interface Shape { area(): number }
export type Id = string | number;
export enum Colour { Red, Blue }
export abstract class Base { abstract go(): void; protected run(n: number): void { if (n) {} } }
namespace Inner { export function f() {} }
declare function outside(x: number): string;
"#,
    );
    assert_eq!(
        symbols(&facts),
        [
            ("interface", "", "Shape", 0),
            ("method", "Shape", "area", 0),
            ("alias", "", "Id", 0),
            ("enum", "", "Colour", 0),
            ("class", "", "Base", 0),
            ("method", "Base", "go", 0),
            ("method", "Base", "run", 2),
            ("module", "", "Inner", 0),
            ("function", "Inner", "f", 1),
            ("function", "", "outside", 0),
        ]
    );
    assert_eq!(imports(&facts), ["./a", "./legacy"]);
    let tsx = read(
        Language::Tsx,
        "export const App = (p: P) => <div>{p.x ? <a/> : 'text'}</div>;\n",
    );
    assert_eq!((symbols(&tsx), tsx.errors), (vec![("function", "", "App", 2)], 0));
}
