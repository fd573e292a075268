import { inRepository } from "../support/processes/processes.js";
import { testCases } from "./case_runner.js";

testCases(inRepository("test/gateway/cases"));
