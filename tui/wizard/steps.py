"""Which view belongs to which step; imported when it is opened."""

from tui.wizard.draft import StepName
from tui.wizard.step_view import StepContext, StepView


def build_step(step: StepName, context: StepContext) -> StepView:
    """Return the view of a step."""
    match step:
        case "objective":
            from tui.wizard.objective import ObjectiveStep

            return ObjectiveStep(context)
        case "model":
            from tui.wizard.model import ModelStep

            return ModelStep(context)
        case "data":
            from tui.wizard.data import DataStep

            return DataStep(context)
        case "xray":
            from tui.wizard.xray import XrayStep

            return XrayStep(context)
        case "method":
            from tui.wizard.method import MethodStep

            return MethodStep(context)
        case "settings":
            from tui.wizard.settings import SettingsStep

            return SettingsStep(context)
        case "review":
            from tui.wizard.review import ReviewStep

            return ReviewStep(context)
