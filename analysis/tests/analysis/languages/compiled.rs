//! Go, Java and C.

use analysis::language::Language;

use super::{imports, read, symbols};

#[test]
fn go() {
    let facts = read(
        Language::Go,
        r#"package server

import (
	"fmt"
	wire "example.com/weir/wire"
)

const Most = 8

type Server[T any] struct{ n int }
type Doer interface{ Do(n int) error }
type Name = string
type Id int

func (s *Server[T]) Close(n int) error {
	if err := s.do(); err != nil && n > 0 {
		return err
	}
	for i := range n {
		switch i {
		case 0, 1:
		case 2:
		default:
		}
	}
	select {
	case <-s.done:
	}
	return nil
}

func main() { fmt.Println() }
"#,
    );
    assert_eq!(
        symbols(&facts),
        [
            ("constant", "", "Most", 0),
            ("struct", "", "Server", 0),
            ("interface", "", "Doer", 0),
            ("method", "Doer", "Do", 0),
            ("alias", "", "Name", 0),
            ("alias", "", "Id", 0),
            // 1, if, &&, for, two cases, one communication.
            ("method", "Server", "Close", 7),
            ("function", "", "main", 1),
        ]
    );
    assert_eq!(imports(&facts), ["fmt", "example.com/weir/wire"]);
}

#[test]
fn java() {
    let facts = read(
        Language::Java,
        r"package com.example;

import java.util.*;
import com.example.wire.Event;
import static com.example.Names.name;

/** Calls. */
public class Client implements Runnable {
    record Pair(int a, int b) {}
    enum Lane { HIGH, LOW }
    interface Drain { void drain(); }
    public Client(int n) { this.n = n; }
    @Override
    public void run() {
        for (int i = 0; i < n; i++) { if (i > 2 || n == 3) continue; }
        for (var x : list) { while (x) {} }
        switch (n) { case 1: break; case 2: break; default: break; }
        try { n = n > 1 ? 2 : 3; } catch (RuntimeException e) { }
    }
}
",
    );
    assert_eq!(
        symbols(&facts),
        [
            ("class", "", "Client", 0),
            ("struct", "Client", "Pair", 0),
            ("enum", "Client", "Lane", 0),
            ("interface", "Client", "Drain", 0),
            ("method", "Client.Drain", "drain", 0),
            ("method", "Client", "Client", 1),
            // 1, for, if, ||, for, while, two cases, ?:, catch
            ("method", "Client", "run", 10),
        ]
    );
    assert_eq!(
        imports(&facts),
        ["java.util", "com.example.wire.Event", "com.example.Names.name"]
    );
}

#[test]
fn c() {
    let facts = read(
        Language::C,
        r#"#include <stdio.h>
#include "wire/event.h"
#include MACRO
#define MOST 8
#define TWICE(x) ((x) + (x))

struct queue { int n; };
struct queue *forward(struct queue *q);
typedef struct { int a; } pair;
enum lane { HIGH, LOW };

static int *(*pick(int n))(int) {
    if (n && n > 2) return 0;
    for (int i = 0; i < n; i++) { do { n--; } while (n); }
    switch (n) { case 1: break; default: break; }
    return n ? 0 : 0;
}
"#,
    );
    assert_eq!(
        symbols(&facts),
        [
            ("macro", "", "MOST", 0),
            ("macro", "", "TWICE", 0),
            ("struct", "", "queue", 0),
            ("alias", "", "pair", 0),
            ("enum", "", "lane", 0),
            // 1, if, &&, for, do, case, ?:
            ("function", "", "pick", 7),
        ]
    );
    assert_eq!(imports(&facts), ["stdio.h", "wire/event.h"]);
}
