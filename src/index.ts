/**
 * Library that notebooks import: open a lab, ask, edit, roll back, run the protocol, and show tables and figures.
 * @packageDocumentation
 */
export { Interrupted, LabFailure, RefusedInput } from "./core/errors.js";
export { createRng, type Rng } from "./core/rng.js";
export { bootstrapInterval, type Interval, mean, pairedPermutationTest } from "./core/stats.js";
export { fetchData, locateData } from "./data/fetch.js";
export { loadIrrelevant, loadRecords } from "./data/load.js";
export type { Dataset, EditRecord } from "./data/records.js";
export { describeOptions } from "./edit/keys.js";
export type { Reading } from "./edit/overlay.js";
export { methods } from "./edit/registry.js";
export type { EditStep, EditTrace } from "./edit/trace.js";
export type { Answer } from "./eval/answers.js";
export type { Fact } from "./eval/byHand.js";
export { type Metric, metrics } from "./eval/metrics.js";
export type { Probe, ProbeKind } from "./eval/score.js";
export type { ProbeScore, RecordScore } from "./eval/types.js";
export { atInference } from "./explore/atInference.js";
export type { BestValue } from "./explore/bestValue.js";
export { exploreRouter, type RouterExploration } from "./explore/exploreRouter.js";
export { routerFindings } from "./explore/findings.js";
export { atSteps, exploreSteps, type StepsOptions, type StepsRequest } from "./explore/numSteps.js";
export { type RouterRoc, routerRoc } from "./explore/routerRoc.js";
export { evenValues, type RouterPoint, routerPoints } from "./explore/routerScores.js";
export type { FrozenProgress } from "./model/frozen.js";
export { displayCase, displayCases } from "./notebook/cases.js";
export { display, displayFigure, displayTable, interruptSignal, saveFigure } from "./notebook/display.js";
export { followEdit, followFrozen, followRun } from "./notebook/follow.js";
export { type Progress, progress } from "./notebook/progress.js";
export { runGolden } from "./parity/golden.js";
export { answerRows, editedFrame, probeRows } from "./report/answers.js";
export { caseOf } from "./report/cases/case.js";
export type { CaseFilter } from "./report/cases/page/filter.js";
export type { Case, CaseProbe, CauseName } from "./report/cases/page/types.js";
export { reportHtml } from "./report/cases/report.js";
export { casesWhere, causesFrame } from "./report/cases/select.js";
export {
  type CompareOptions,
  compareWithNearest,
  compareWithPublished,
  comparisonFrame,
  intervalOfRecords,
  nearestRun,
  type PublishedComparison,
  recordsFrame,
  type Verdict,
} from "./report/compare.js";
export { exportFigure, redrawFigures, renderFigure } from "./report/export.js";
export type { Figure } from "./report/figure.js";
export { gridHeatmap } from "./report/figures/gridHeatmap.js";
export { ladder } from "./report/figures/ladder.js";
export { lossCurve } from "./report/figures/lossCurve.js";
export { publishedOverT } from "./report/figures/publishedOverT.js";
export { routerCurves } from "./report/figures/routerCurves.js";
export { routerRocCurve } from "./report/figures/routerRocCurve.js";
export { routingDistances } from "./report/figures/routingDistances.js";
export { routingHistogram } from "./report/figures/routingHistogram.js";
export { stepsCurve } from "./report/figures/stepsCurve.js";
export { stopsOverSteps } from "./report/figures/stopsOverSteps.js";
export { tRollback } from "./report/figures/tRollback.js";
export { trainingLoss } from "./report/figures/trainingLoss.js";
export { renderSummary, summaryView } from "./report/format.js";
export { bestCells, type Grid, gridFrame, gridOf, gridView, sweepGrid } from "./report/grids.js";
export { ladderFrame, ladderView } from "./report/ladder.js";
export { escapeLatex, type LatexColumn, type LatexOptions, summaryLatex, toLatex } from "./report/latex.js";
export { readOwnStudy, readRuns } from "./report/measured.js";
export { methodsFrame } from "./report/methodsPage.js";
export { caption } from "./report/protocols.js";
export {
  lifelongFrame,
  type PublishedFilter,
  type PublishedRow,
  publishedCaption,
  publishedFrame,
  publishedProtocol,
  readPublished,
  sourcesFrame,
} from "./report/published.js";
export { toCsv, toMarkdown, toText } from "./report/readable.js";
export { bestValuesFrame, bestValuesView, rocFrame, routerFrame, routerView } from "./report/router.js";
export type { FigureSource } from "./report/sources.js";
export { recordOverSteps, stepsFindings, stepsFrame, stepsView } from "./report/steps.js";
export { blocksFrame, casesFrame, groupsFrame, summaryFrame } from "./report/tables.js";
export { type EditedBy, editByEvery } from "./run/everyMethod.js";
export { readRun } from "./run/folder.js";
export { DEFAULT_MODEL, DEFAULT_RECORDS, projectFile } from "./run/inputs.js";
export { type Lab, type LabOptions, type MethodOptions, openLab } from "./run/lab.js";
export type { RunRequest } from "./run/request.js";
export type { RunProgress } from "./run/runner.js";
export { readStudy, type Study, studyNamed } from "./run/study.js";
export { type RunSummary, summarizeRun } from "./run/summary.js";
export { readRunSummary, writeRunSummary } from "./run/summary-file.js";
export { runSweep, type SweepOptions, type SweepPoint, type SweepProgress, type SweepRun } from "./run/sweep.js";
export type { Protocol, RunResult, ScoredRun, When } from "./run/types.js";
export { underMetric } from "./run/under-metric.js";
export { type BackendName, type BackendReport, selectBackend } from "./tensor/backend.js";
