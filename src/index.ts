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
export { gridHeatmap } from "./explore/grid/gridHeatmap.js";
export { bestCells, type Grid, gridFrame, gridOf, gridView, sweepGrid } from "./explore/grid/grids.js";
export { ladder } from "./explore/ladder/ladder.js";
export { ladderFrame, ladderView } from "./explore/ladder/tables.js";
export { forgettingCurves } from "./explore/retention/forgettingCurves.js";
export { forgettingFrame, forgettingView, retentionFrame, retentionGrid } from "./explore/retention/retention.js";
export { atInference } from "./explore/router/atInference.js";
export type { BestValue } from "./explore/router/bestValue.js";
export { exploreRouter, type RouterExploration } from "./explore/router/exploreRouter.js";
export { routerFindings } from "./explore/router/findings.js";
export { routerCurves } from "./explore/router/routerCurves.js";
export { type RouterRoc, routerRoc } from "./explore/router/routerRoc.js";
export { routerRocCurve } from "./explore/router/routerRocCurve.js";
export { evenValues, type RouterPoint, routerPoints } from "./explore/router/routerScores.js";
export { routingHistogram } from "./explore/router/routingHistogram.js";
export { bestValuesFrame, bestValuesView, rocFrame, routerFrame, routerView } from "./explore/router/tables.js";
export { atSteps, exploreSteps, type StepsOptions, type StepsRequest } from "./explore/steps/numSteps.js";
export { stepsCurve } from "./explore/steps/stepsCurve.js";
export { stopsOverSteps } from "./explore/steps/stopsOverSteps.js";
export { recordOverSteps, stepsFindings, stepsFrame, stepsView } from "./explore/steps/tables.js";
export { exportFigure, redrawFigures, renderFigure } from "./figures/export.js";
export type { Figure } from "./figures/figure.js";
export { lossCurve } from "./figures/lossCurve.js";
export { routingDistances } from "./figures/routingDistances.js";
export type { FigureSource } from "./figures/sources.js";
export { tRollback } from "./figures/tRollback.js";
export type { FrozenProgress } from "./model/frozen.js";
export { displayCase, displayCases } from "./notebook/cases.js";
export { display, displayFigure, displayTable, interruptSignal, saveFigure } from "./notebook/display.js";
export { followEdit, followFrozen, followRun } from "./notebook/follow.js";
export { type Progress, progress } from "./notebook/progress.js";
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
} from "./published/compare.js";
export {
  lifelongFrame,
  type PublishedFilter,
  type PublishedRow,
  publishedCaption,
  publishedFrame,
  publishedProtocol,
  readPublished,
  sourcesFrame,
} from "./published/published.js";
export { publishedOverT } from "./published/publishedOverT.js";
export type { CaseFilter } from "./report/app/filter.js";
export type { Case, CaseProbe, CauseName } from "./report/app/types.js";
export { caseOf } from "./report/case.js";
export { reportHtml } from "./report/report.js";
export { casesWhere, causesFrame } from "./report/select.js";
export { scoredAt } from "./run/checkpoints.js";
export { type EditedBy, editByEvery } from "./run/everyMethod.js";
export { readOwnStudy, readRuns } from "./run/finished.js";
export { readRun } from "./run/folder.js";
export { DEFAULT_MODEL, DEFAULT_RECORDS, projectFile } from "./run/inputs.js";
export { type Joined, joinParts } from "./run/join.js";
export { type Lab, type LabOptions, type MethodOptions, openLab } from "./run/lab.js";
export type { RunProgress } from "./run/pace.js";
export type { RunRequest } from "./run/request.js";
export { readStudy, readStudyRows, type Study, type StudyRow, studyNamed } from "./run/study.js";
export { type RunSummary, summarizeRun } from "./run/summary.js";
export { readRunSummary, writeRunSummary } from "./run/summary-file.js";
export { runSweep, type SweepOptions, type SweepPoint, type SweepProgress, type SweepRun } from "./run/sweep.js";
export type { Protocol, RunResult, ScoredRun, When } from "./run/types.js";
export { underMetric } from "./run/under-metric.js";
export { answerRows, editedFrame, probeRows } from "./tables/answers.js";
export { renderSummary, summaryView } from "./tables/format.js";
export { escapeLatex, type LatexColumn, type LatexOptions, summaryLatex, toLatex } from "./tables/latex.js";
export { methodsFrame } from "./tables/methodsPage.js";
export { caption } from "./tables/protocols.js";
export { toCsv, toMarkdown, toText } from "./tables/readable.js";
export { blocksFrame, casesFrame, groupsFrame, summaryFrame } from "./tables/tables.js";
export { type BackendName, type BackendReport, selectBackend } from "./tensor/backend.js";
export { causesOverT, causesOverTFrame, type RunCauses } from "./verdict/causes.js";
export { verdictFindings } from "./verdict/findings.js";
export { type OrderAtT, ordersFrame, ordersOf } from "./verdict/orders.js";
export { panelsTwice } from "./verdict/panelsTwice.js";
export { rowsUnder } from "./verdict/rows.js";
export { methodsLatex, methodsOverT, noteOn } from "./verdict/table.js";
export { bestOf, pairsFrame, pairTests } from "./verdict/tests.js";
export { verifyCommandOf, verifyFrame } from "./verdict/verify.js";
